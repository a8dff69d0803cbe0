//! Serial numbers of certificates.

use std::fmt;
use std::str::FromStr;

use bincode::{Decode, Encode};
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::spiffe::SpiffeError;

/// Serial number of a certificate: 127 random bits, written as 32 hexadecimal digits.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
pub struct Serial(pub u128);

/// Why a text is no serial number.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{found:?} is no serial number: expected 32 hexadecimal digits, as `codeco get certs` shows them")]
pub struct SerialError {
    /// What was found, cut to 80 characters.
    pub found: String,
}

impl Serial {
    /// Of a certificate, DER.
    ///
    /// # Errors
    /// [`SpiffeError::Certificate`] if it is none, or has a serial number of more than 16 bytes.
    pub fn of_certificate(certificate: &[u8]) -> Result<Self, SpiffeError> {
        let (_, parsed) = X509Certificate::from_der(certificate)
            .map_err(|e| SpiffeError::Certificate { detail: e.to_string() })?;
        Self::of_parsed(&parsed)
    }

    pub(super) fn of_parsed(parsed: &X509Certificate<'_>) -> Result<Self, SpiffeError> {
        let raw = parsed.raw_serial();
        if raw.len() > 16 {
            let detail = format!("its serial number has {} bytes, at most 16 were expected", raw.len());
            return Err(SpiffeError::Certificate { detail });
        }
        Ok(Self(raw.iter().fold(0, |number, byte| number << 8 | u128::from(*byte))))
    }
}

impl fmt::Display for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&format!("{:032x}", self.0))
    }
}

impl fmt::Debug for Serial {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Serial {
    type Err = SerialError;

    fn from_str(text: &str) -> Result<Self, SerialError> {
        let bad = || SerialError { found: text.chars().take(80).collect() };
        let ok = text.len() == 32 && text.bytes().all(|b| b.is_ascii_hexdigit());
        if ok { u128::from_str_radix(text, 16).map(Self).map_err(|_| bad()) } else { Err(bad()) }
    }
}

impl Serialize for Serial {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.serialize_str(&self.to_string())
    }
}

impl<'de> Deserialize<'de> for Serial {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn serial_written_and_read_is_the_same_and_other_texts_are_refused() {
        let serial = Serial(0x4000_0000_0000_0000_0000_0000_0000_00ff);
        assert_eq!(serial.to_string().parse(), Ok(serial));
        for bad in ["", "ff", "+4000000000000000000000000000000", &"g".repeat(32), &"1".repeat(33)] {
            assert!(bad.parse::<Serial>().is_err(), "{bad}");
        }
    }
}
