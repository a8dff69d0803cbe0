//! The hub of CODECO: the Deployment's process, ACM, and the HTTP API.
