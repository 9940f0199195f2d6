//! [`Prefix`]: an address and a length, written `10.96.0.0/16`.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use thiserror::Error;

/// A range of addresses. The host bits are zero: `10.96.0.1/16` parses to `10.96.0.0/16`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Prefix {
    address: IpAddr,
    len: u8,
}

/// A text is no prefix.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[error("'{0}' is no address prefix: write it like 10.96.0.0/16 or fd00::/64")]
pub struct NotAPrefix(String);

impl Prefix {
    /// The prefix of this length around `address`; `None` when the length is over the family's 32 or 128.
    pub fn new(address: IpAddr, len: u8) -> Option<Self> {
        let shift = |bits: u8| bits.checked_sub(len).map(u32::from);
        let address = match address {
            IpAddr::V4(v4) => {
                let mask = u32::MAX.checked_shl(shift(32)?).unwrap_or(0);
                IpAddr::from((v4.to_bits() & mask).to_be_bytes())
            }
            IpAddr::V6(v6) => {
                let mask = u128::MAX.checked_shl(shift(128)?).unwrap_or(0);
                IpAddr::from((v6.to_bits() & mask).to_be_bytes())
            }
        };
        Some(Self { address, len })
    }

    /// The first address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// How many leading bits are fixed: 0 to 32 for IPv4, to 128 for IPv6.
    pub const fn bits(&self) -> u8 {
        self.len
    }

    /// Whether `address` is inside.
    pub fn contains(&self, address: IpAddr) -> bool {
        address.is_ipv4() == self.address.is_ipv4() && Self::new(address, self.len) == Some(*self)
    }

    /// Whether the two share an address.
    pub fn overlaps(&self, other: &Self) -> bool {
        self.contains(other.address) || other.contains(self.address)
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl FromStr for Prefix {
    type Err = NotAPrefix;

    fn from_str(text: &str) -> Result<Self, NotAPrefix> {
        let parse = || {
            let (address, len) = text.split_once('/')?;
            Self::new(address.parse().ok()?, len.parse().ok()?)
        };
        parse().ok_or_else(|| NotAPrefix(text.to_owned()))
    }
}

impl TryFrom<String> for Prefix {
    type Error = NotAPrefix;

    fn try_from(text: String) -> Result<Self, NotAPrefix> {
        text.parse()
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn prefix(text: &str) -> Prefix {
        text.parse().unwrap()
    }

    #[test]
    fn host_bits_are_dropped() {
        assert_eq!(prefix("10.96.3.4/16").to_string(), "10.96.0.0/16");
        assert_eq!(prefix("fd00::1/64").to_string(), "fd00::/64");
        assert_eq!(prefix("1.2.3.4/0").to_string(), "0.0.0.0/0");
    }

    #[test]
    fn a_wrong_text_is_named() {
        for text in ["", "10.0.0.0", "10.0.0.0/33", "::/129", "10.0.0/8", "10.0.0.0/-1"] {
            assert!(text.parse::<Prefix>().unwrap_err().to_string().contains(&format!("'{text}'")));
        }
    }

    #[test]
    fn families_never_overlap() {
        assert!(!prefix("0.0.0.0/0").overlaps(&prefix("::/0")));
        assert!(prefix("10.0.0.0/8").overlaps(&prefix("10.96.0.0/16")));
        assert!(prefix("10.96.0.0/16").overlaps(&prefix("10.0.0.0/8")));
        assert!(!prefix("10.96.0.0/16").overlaps(&prefix("10.97.0.0/16")));
    }

    proptest! {
        #[test]
        fn any_prefix_survives_its_text(address: IpAddr, len in 0u8..=128) {
            if let Some(prefix) = Prefix::new(address, len) {
                prop_assert_eq!(prefix.to_string().parse(), Ok(prefix));
                prop_assert!(prefix.contains(address));
            }
        }

        #[test]
        fn any_text_parses_without_a_panic(text: String) {
            let _ = text.parse::<Prefix>();
        }
    }
}
