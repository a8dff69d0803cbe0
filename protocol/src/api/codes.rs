//! Every stable error code a user can meet, in one table: `docs/errors.md` is made from it.
//!
//! An error takes an [`ErrorCode`], and nobody else can make one: a code that is not in the table does not compile.

use std::fmt::{self, Write as _};

/// A stable error code.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ErrorCode {
    word: &'static str,
    exit: u8,
    cause: &'static str,
    left: &'static str,
    next: &'static str,
}

impl ErrorCode {
    /// The code as it is written, such as `app-not-found`.
    #[must_use]
    pub const fn word(self) -> &'static str {
        self.word
    }
}

impl fmt::Display for ErrorCode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.word)
    }
}

macro_rules! codes {
    ($($name:ident = $word:literal, exit $exit:literal: $cause:literal; left: $left:literal; next: $next:literal.)+) => {
        $(
            #[doc = concat!($cause, ".")]
            pub const $name: ErrorCode =
                ErrorCode { word: $word, exit: $exit, cause: $cause, left: $left, next: $next };
        )+

        /// All codes, by name.
        pub const ALL: &[ErrorCode] = &[$($name),+];
    };
}

codes! {
    AGENT_FAILED = "agent-failed", exit 1: "An agent could not start or had to end";
        left: "nothing new runs; what its guard keeps running follows its leases";
        next: "correct the cause named and start the agent again".
    ANSWER_TOO_LARGE = "answer-too-large", exit 1: "The hub's answer is larger than a client takes";
        left: "nothing was changed by reading";
        next: "ask for less: one application, cluster or node, or a smaller limit".
    API_TOKEN_NOT_MADE = "api-token-not-made", exit 1: "An API token could not be made";
        left: "no token was made";
        next: "choose another name, or revoke a token that is not needed any more".
    APP_DELETING = "app-deleting", exit 1: "An application of this name is still being deleted";
        left: "nothing was changed";
        next: "apply again once `codeco get apps -A` no longer lists it".
    APP_ELSEWHERE = "app-elsewhere", exit 1: "Another member speaks for the application";
        left: "nothing was changed";
        next: "ask the member named: it alone numbers specifications of the application and deletes it".
    APP_NOT_FOUND = "app-not-found", exit 3: "The hub knows no such application";
        left: "nothing was changed";
        next: "`codeco get apps -A` lists what is known".
    BODY_TIMEOUT = "body-timeout", exit 7: "The body of a request did not arrive in time";
        left: "nothing was changed";
        next: "try again; on a slow link, apply fewer documents at once".
    BRAKE_NOT_ENGAGED = "brake-not-engaged", exit 1: "A brake that is not engaged was to be released";
        left: "nothing was changed";
        next: "`codeco get clusters` shows brakes that are; `codeco get events` tells when they came and went".
    CA_UNAVAILABLE = "ca-unavailable", exit 5: "The hub's authority could not write down what was asked of it";
        left: "it is not known whether it counts; asking again changes nothing twice";
        next: "see that the authority's folder can be written, and ask again".
    CERT_NOT_FOUND = "cert-not-found", exit 3: "No member and no certificate of this name is known here";
        left: "nothing was revoked";
        next: "`codeco get certs -o wide` lists members, ids and serial numbers".
    CLOSED = "closed", exit 0: "Whoever read the command's output has closed it";
        left: "the command ended early; what it had asked for may have been done";
        next: "nothing".
    CONTEXTS = "contexts", exit 1: "The file of contexts cannot be read, written or understood";
        left: "the file is as it was";
        next: "correct it, or move it away and start `codeco dev`, which writes a new one".
    DEV_FAILED = "dev-failed", exit 1: "`codeco dev` could not start its fleet";
        left: "what it started has been stopped; its state folder stays";
        next: "correct the cause named and start again".
    ELECTORATE_EXISTS = "electorate-exists", exit 1: "A cluster that has an electorate was to get another one";
        left: "no token was made";
        next: "make the token without `--founds`: its bearer is asked to vote where a voter is missing".
    FAULT_REFUSED = "fault-refused", exit 1: "A fault could not be injected";
        left: "nothing was done";
        next: "faults need processes that allow them, as those of `codeco dev` do, and an actor of that name".
    FORBIDDEN = "forbidden", exit 4: "The token's role may not do this";
        left: "nothing was changed; the refusal was counted, and logged";
        next: "use a context whose token is of the role named".
    HOME_UNAVAILABLE = "home-unavailable", exit 5: "The hub's home does not answer";
        left: "it is not known whether the request was taken";
        next: "ask again: doing so twice changes nothing; `codeco get events` says why it does not answer".
    HUB_FAILED = "hub-failed", exit 1: "A hub could not start or had to end";
        left: "nothing runs; its state folder stays";
        next: "correct the cause named and start the hub again".
    HUB_FULL = "hub-full", exit 1: "The hub has as many applications as it takes";
        left: "nothing was changed";
        next: "delete applications that are no longer needed, or apply to another hub".
    INTERNAL = "internal", exit 1: "A bug";
        left: "it is not known whether the request was taken";
        next: "report it, with the log of the hub".
    INVALID_CONFIG = "invalid-config", exit 1: "The configuration of a hub or an agent is wrong";
        left: "nothing was started";
        next: "correct the option named; `--print-config` shows what was understood".
    INVALID_MANIFEST = "invalid-manifest", exit 6: "A manifest is wrong; each error names file, field, what was found and what was expected";
        left: "nothing of the file was applied";
        next: "correct the fields named and apply again".
    INVALID_REQUEST = "invalid-request", exit 2: "A name in the path is none, or a query or body has an unknown or wrong field";
        left: "nothing was changed";
        next: "compare the versions of both sides: `codeco version`".
    INVALID_TTL = "invalid-ttl", exit 1: "The life asked for a join token is too long or none";
        left: "no token was made";
        next: "choose a shorter life".
    MEMBER_AMBIGUOUS = "member-ambiguous", exit 1: "Several clusters have a node of this name";
        left: "nothing was changed";
        next: "write it as CLUSTER/NAME".
    MEMBER_NOT_FOUND = "member-not-found", exit 3: "No member of this name is known here";
        left: "nothing was changed";
        next: "`codeco get nodes` lists the members; write a node as CLUSTER/NAME".
    METHOD_NOT_ALLOWED = "method-not-allowed", exit 2: "The path takes other methods";
        left: "nothing was changed";
        next: "compare the versions of both sides: `codeco version`".
    NO_CONTEXT = "no-context", exit 2: "No context is in use";
        left: "nothing was sent";
        next: "start a fleet with `codeco dev`, or pick a context with `codeco context use NAME`".
    NO_SUCH_ROUTE = "no-such-route", exit 3: "The hub has no such path";
        left: "nothing was changed";
        next: "compare the versions of both sides: `codeco version`".
    NODE_NOT_FORGOTTEN = "node-not-forgotten", exit 1: "A node cannot be removed: it still answers, or what it runs may still run";
        left: "nothing was changed";
        next: "stop its agent and wait for its lease to end; with --force you say yourself that nothing of it runs any more".
    NODE_NOT_LEFT = "node-not-left", exit 1: "A node cannot leave: it is not drained, or still has replicas";
        left: "nothing was changed";
        next: "`codeco drain` it first; `codeco explain app/NAME` says what a replica waits for".
    NODE_UNREACHABLE = "node-unreachable", exit 5: "The node that has the answer is not connected or does not answer";
        left: "nothing was changed";
        next: "ask again when `codeco get nodes` shows it Ready".
    NOT_FOUND = "not-found", exit 3: "The object named is not there";
        left: "nothing was changed";
        next: "`codeco get` lists what there is".
    OUTPUT = "output", exit 1: "The output could not be written";
        left: "what the command had asked for may have been done";
        next: "make room where the output goes, and look with `codeco get`".
    PROMISE_BROKEN = "promise-broken", exit 1: "A simulated fleet broke a promise";
        left: "nothing: nothing real was touched; a smaller scenario that fails in the same way may be in the working folder";
        next: "play the seed again with `--trace`, and report it".
    REPLICA_NOT_FOUND = "replica-not-found", exit 3: "No such replica is known, or it is on no node yet";
        left: "nothing was changed";
        next: "`codeco get replicas` lists what runs where".
    SCENARIO_INVALID = "scenario-invalid", exit 2: "A scenario cannot be read";
        left: "nothing was played";
        next: "correct the field named; `codeco simulate --list` names scenarios that come with the program".
    SIGNALS = "signals", exit 1: "The process cannot handle signals";
        left: "nothing was started";
        next: "raise the limits of the process (open files, threads) and start again".
    SIMULATION_SHOWS_NOTHING = "simulation-shows-nothing", exit 1: "Something that a scenario wants to see never happened";
        left: "no promise was broken, but nothing is shown about what never happened";
        next: "play more seeds, or take it out of the scenario".
    STRANGE_ANSWER = "strange-answer", exit 1: "The hub answered with something that no hub of this version says";
        left: "it is not known whether the request was taken";
        next: "compare the versions of both sides: `codeco version`".
    TIMEOUT = "timeout", exit 7: "The hub, or the fleet behind it, did not answer in time";
        left: "it is not known whether the request was taken";
        next: "ask again: applying and deleting twice changes nothing".
    TOKEN_NOT_MADE = "token-not-made", exit 5: "A join token could not be written down";
        left: "no token was made";
        next: "try again; the message says what the disk answered".
    TOO_LARGE = "too-large", exit 2: "The body of a request is too large";
        left: "nothing was changed";
        next: "put fewer applications into one file".
    UNAUTHENTICATED = "unauthenticated", exit 4: "No token, or one that this hub does not know";
        left: "nothing was changed; the refusal was counted, and logged";
        next: "use a context of this fleet: `codeco context list`".
    UNREACHABLE = "unreachable", exit 5: "The hub cannot be reached";
        left: "nothing was sent, or it is not known whether it was taken";
        next: "check that the hub runs and that the address is right: `codeco context list`".
    UNREADABLE_FILE = "unreadable-file", exit 1: "A file given to a command cannot be read (exit code 3 if it is not there)";
        left: "nothing was sent";
        next: "correct the name, or the permissions".
    USAGE = "usage", exit 2: "The command was called wrongly";
        left: "nothing was sent";
        next: "add `--help`".
    WRONG_SERVER = "wrong-server", exit 5: "Whoever answers at the hub's address has not the hub's certificate";
        left: "nothing was sent";
        next: "see whether another fleet runs there: `codeco context list`".
}

/// The table for people, as in `docs/errors.md`.
#[must_use]
pub fn markdown() -> String {
    let mut text = String::from(
        "# Error codes\n\n\
         Made from `protocol/src/api/codes.rs`; `CODECO_WRITE_DOCS=1 cargo test -p codeco-protocol --lib codes` writes \
         it anew.\n\n\
         Codes and exit codes are stable. The HTTP API gives the code as `code`, a command prints it in brackets at \
         the end of its first line. The message of an error names the object; what to do next is more specific there.\n\n\
         Exit codes: 0 done · 1 error · 2 called wrongly · 3 not found · 4 refused · 5 hub unreachable · \
         6 invalid manifest · 7 timeout\n\n\
         | Code | Exit | What happened | What it left behind | What to do next |\n|---|---|---|---|---|\n",
    );
    for code in ALL {
        let ErrorCode { word, exit, cause, left, next } = code;
        // Writing into a string cannot fail.
        let _ = writeln!(text, "| `{word}` | {exit} | {cause} | {left} | {next} |");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_sorted_and_plain() {
        let words: Vec<&str> = ALL.iter().map(|code| code.word).collect();
        assert!(words.is_sorted_by(|a, b| a.replace('-', " ") < b.replace('-', " ")), "{words:?}");
        for word in words {
            assert!(word.bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-'), "{word}");
        }
        assert!(ALL.iter().all(|code| code.exit <= 7 && !markdown().is_empty()));
    }

    #[test]
    fn codes_as_documented_are_those_in_use() {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/errors.md");
        if std::env::var_os("CODECO_WRITE_DOCS").is_some() {
            std::fs::write(path, markdown()).unwrap();
        }
        let documented = std::fs::read_to_string(path).unwrap();
        assert_eq!(
            documented,
            markdown(),
            "write it anew: CODECO_WRITE_DOCS=1 cargo test -p codeco-protocol --lib codes"
        );
    }
}
