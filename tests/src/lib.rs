//! End-to-end tests of CODECO: real processes on real QUIC.
