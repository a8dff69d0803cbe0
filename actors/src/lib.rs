//! The components of CODECO (ACM, MDM, NetMA, SWM), their supervision and their introspection.
