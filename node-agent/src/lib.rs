//! The node agent of CODECO: the DaemonSet's process, its node sources and its runtimes.
