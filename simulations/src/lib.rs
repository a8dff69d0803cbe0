//! Deterministic simulation of CODECO's cores.
