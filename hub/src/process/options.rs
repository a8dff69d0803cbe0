//! Options of the hub: one struct for flags, environment, file and `--print-config`.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use codeco_actors::pdlc::judge::Learning;
use codeco_actors::pdlc::{LOAD_STEP_MS, LOAD_STEP_MS_DEFAULT, is_load_step};
use codeco_actors::process::{ConfigError, MembershipProfile, load_file, resolve_options};
use codeco_protocol::gossip::RingConfig;
use codeco_protocol::identity::TrustDomain;
use codeco_protocol::ids::HubName;
use serde::{Deserialize, Serialize};

/// Options of the hub. Flags win over the environment, the environment over the file.
#[derive(Debug, Clone, Default, PartialEq, Args, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct HubOptions {
    /// TOML file with any of these options.
    #[arg(long, env = "CODECO_HUB_CONFIG")]
    #[serde(skip)]
    pub config: Option<PathBuf>,
    /// Print the configuration that results, and exit.
    #[arg(long)]
    #[serde(skip)]
    pub print_config: bool,
    /// Folder for everything the hub keeps [default: /var/lib/codeco/hub].
    #[arg(long, env = "CODECO_STATE")]
    pub state: Option<PathBuf>,
    /// Folder of the certificate authority, apart from the hub's state [default: STATE/ca].
    #[arg(long, env = "CODECO_CA")]
    pub ca: Option<PathBuf>,
    /// Name of this hub [default: the host's name].
    #[arg(long, env = "CODECO_HUB_NAME")]
    pub name: Option<String>,
    /// UDP address to listen on [default: 0.0.0.0:7300].
    #[arg(long, env = "CODECO_LISTEN")]
    pub listen: Option<SocketAddr>,
    /// TCP address of the API, always TLS [default: 127.0.0.1:7443].
    #[arg(long, env = "CODECO_API")]
    pub api: Option<SocketAddr>,
    /// TCP address of /healthz, /readyz and /metrics [default: 127.0.0.1:7301].
    #[arg(long, env = "CODECO_HTTP")]
    pub http: Option<SocketAddr>,
    /// Name of the trust domain; only used when the authority is made [default: codeco.local].
    #[arg(long, env = "CODECO_TRUST_DOMAIN")]
    pub trust_domain: Option<String>,
    /// How long certificates live, in hours [default: 24].
    #[arg(long, env = "CODECO_CERTIFICATE_HOURS")]
    pub certificate_hours: Option<u64>,
    /// The same in seconds, for drills; wins over the hours.
    #[arg(long, env = "CODECO_CERTIFICATE_SECONDS")]
    pub certificate_seconds: Option<u64>,
    /// How long the leads of clusters may certify their own nodes without hearing from a hub, in days [default: 365].
    #[arg(long, env = "CODECO_ISSUER_DAYS")]
    pub issuer_days: Option<u64>,
    /// How members observe each other: `lan` notices a loss fast, `metered` sends few bytes; the same on all members of
    /// a cluster [default: lan].
    #[arg(long, env = "CODECO_PROFILE")]
    pub profile: Option<MembershipProfile>,
    /// Whether this hub trains models: `off`, or anything else [default: on].
    #[arg(long, env = "CODECO_LEARNING")]
    pub learning: Option<Learning>,
    /// Length of a step of load, in milliseconds, a multiple of 60; the same on all members [default: 300000].
    #[arg(long, env = "CODECO_LOAD_STEP_MS")]
    pub load_step_ms: Option<u32>,
    /// Allow faults to be injected.
    #[arg(long, env = "CODECO_FAULTS")]
    pub faults: bool,
}

/// What the hub runs with.
#[derive(Debug, Clone)]
pub struct HubConfig {
    /// Folder for everything the hub keeps.
    pub state: PathBuf,
    /// Folder of the authority.
    pub ca: PathBuf,
    /// Name.
    pub name: HubName,
    /// UDP address.
    pub listen: SocketAddr,
    /// TCP address of the API.
    pub api: SocketAddr,
    /// TCP address of health and metrics.
    pub http: SocketAddr,
    /// Trust domain of a new authority.
    pub trust_domain: TrustDomain,
    /// Life of certificates.
    pub certificate_life: Duration,
    /// Life of the certificates with which leads certify their clusters' nodes.
    pub issuer_life: Duration,
    /// How members observe each other.
    pub membership: RingConfig,
    /// Whether this hub trains models.
    pub learning: Learning,
    /// Length of a step of load, in milliseconds.
    pub load_step_ms: u32,
    /// Whether faults may be injected.
    pub faults: bool,
}

impl HubOptions {
    /// Reads the file and puts the layers together.
    ///
    /// # Errors
    /// [`ConfigError`].
    pub fn layered(&self) -> Result<Self, ConfigError> {
        let file = match &self.config {
            Some(path) => Some((path.as_path(), load_file::<Self>(path)?)),
            None => None,
        };
        resolve_options(self, file)
    }

    /// Checks every value and fills in the defaults.
    ///
    /// # Errors
    /// [`ConfigError`] names the option, what was found, and what was expected.
    pub fn resolve(&self) -> Result<HubConfig, ConfigError> {
        let hostname = || rustix_hostname().unwrap_or_else(|| "hub".into());
        let name = self.name.clone().unwrap_or_else(hostname);
        let name = HubName::new(name).map_err(|e| value("name", &e.found, "an RFC 1123 label"))?;
        let domain = self.trust_domain.as_deref().unwrap_or("codeco.local");
        let trust_domain =
            TrustDomain::new(domain).map_err(|e| value("trust-domain", domain, &e.to_string()))?;
        let hours = self.certificate_hours.unwrap_or(24);
        if !(1..=24 * 366).contains(&hours) {
            return Err(value("certificate-hours", &hours.to_string(), "1 to 8784"));
        }
        let seconds = self.certificate_seconds.unwrap_or(hours * 3_600);
        if !(20..=24 * 366 * 3_600).contains(&seconds) {
            return Err(value("certificate-seconds", &seconds.to_string(), "20 to 31622400"));
        }
        let days = self.issuer_days.unwrap_or(365);
        if !(1..=3_650).contains(&days) {
            return Err(value("issuer-days", &days.to_string(), "1 to 3650"));
        }
        let load_step = self.load_step_ms.unwrap_or(LOAD_STEP_MS_DEFAULT);
        if !is_load_step(load_step) {
            let expected =
                format!("a multiple of 60 from {} to {}", LOAD_STEP_MS.start(), LOAD_STEP_MS.end());
            return Err(value("load-step-ms", &load_step.to_string(), &expected));
        }
        let state = self.state.clone().unwrap_or_else(|| "/var/lib/codeco/hub".into());
        Ok(HubConfig {
            ca: self.ca.clone().unwrap_or_else(|| state.join("ca")),
            state,
            name,
            listen: self.listen.unwrap_or_else(|| SocketAddr::from(([0, 0, 0, 0], 7300))),
            api: self.api.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7443))),
            http: self.http.unwrap_or_else(|| SocketAddr::from(([127, 0, 0, 1], 7301))),
            trust_domain,
            certificate_life: Duration::from_secs(seconds),
            issuer_life: Duration::from_secs(days * 24 * 3_600),
            membership: self.profile.unwrap_or_default().config(),
            learning: self.learning.unwrap_or_default(),
            load_step_ms: load_step,
            faults: self.faults,
        })
    }
}

fn value(field: &'static str, found: &str, expected: &str) -> ConfigError {
    ConfigError::Value { field, found: format!("{found:?}"), expected: expected.to_owned() }
}

fn rustix_hostname() -> Option<String> {
    let text = std::fs::read_to_string("/proc/sys/kernel/hostname").ok()?;
    Some(text.trim().to_lowercase())
}
