//! [`Key`]: the name of a connection, small and quick to compare, and [`Seed`], its hash. Used by [`super::flows::Flows`].
//!
//! Whoever may send to the target chooses addresses and ports, so the hash has a secret: without it nobody finds names that share a bucket.

use std::{
    hash::{BuildHasher, Hash, Hasher},
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
};

/// Client and server address, and in the last word family and ports.
#[derive(Debug, Clone, Copy, Eq)]
pub(super) struct Key([u64; 5]);

const V6: u64 = 1 << 32;

impl Key {
    pub(super) fn new(client: SocketAddr, server: SocketAddr) -> Self {
        let ports = u64::from(client.port()) << 16 | u64::from(server.port());
        match (client.ip(), server.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Self([0, from.to_bits().into(), 0, to.to_bits().into(), ports]),
            (from, to) => {
                let [from_high, from_low] = halves(from);
                let [to_high, to_low] = halves(to);
                Self([from_high, from_low, to_high, to_low, V6 | ports])
            }
        }
    }

    pub(super) fn client(&self) -> SocketAddr {
        SocketAddr::new(self.address(0), low_16(self.0[4] >> 16))
    }

    pub(super) fn server(&self) -> SocketAddr {
        SocketAddr::new(self.address(2), low_16(self.0[4]))
    }

    fn address(&self, at: usize) -> IpAddr {
        let bits = u128::from(self.0[at]) << 64 | u128::from(self.0[at + 1]);
        let v4 = u32::try_from(bits).ok().filter(|_| self.0[4] & V6 == 0);
        v4.map_or_else(|| Ipv6Addr::from_bits(bits).into(), |bits| Ipv4Addr::from_bits(bits).into())
    }
}

/// Two families in one packet do not occur; were they to, the IPv4 address would be a mapped one.
fn halves(address: IpAddr) -> [u64; 2] {
    let bits = match address {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    [high_64(bits), low_64(bits)]
}

const fn low_16(word: u64) -> u16 {
    (word & 0xffff) as u16
}

const fn low_64(bits: u128) -> u64 {
    bits as u64
}

const fn high_64(bits: u128) -> u64 {
    (bits >> 64) as u64
}

impl PartialEq for Key {
    /// Word by word in registers: a call of `memcmp`, which deriving gives, is a third of the whole way of a segment.
    fn eq(&self, other: &Self) -> bool {
        std::iter::zip(self.0, other.0).fold(0, |differ, (one, two)| differ | (one ^ two)) == 0
    }
}

impl Hash for Key {
    fn hash<H: Hasher>(&self, state: &mut H) {
        for pair in [[self.0[0], self.0[2]], [self.0[1], self.0[3]], [self.0[4], 0]] {
            state.write_u128(u128::from(pair[0]) << 64 | u128::from(pair[1]));
        }
    }
}

/// A secret, and the [`BuildHasher`] that it makes.
#[derive(Debug, Clone, Copy)]
pub(super) struct Seed([u64; 2]);

impl Seed {
    pub(super) const fn new(seed: u64) -> Self {
        // Any odd constants: they keep a seed of 0 from folding everything to 0.
        Self([seed ^ 0x9e37_79b9_7f4a_7c15, fold(seed ^ 0xd1b5_4a32_d192_ed03, 0x94d0_49bb_1331_11eb)])
    }
}

impl BuildHasher for Seed {
    type Hasher = Folder;

    fn build_hasher(&self) -> Folder {
        Folder { state: self.0[0], secret: self.0[1] }
    }
}

/// Multiplies pairs of words and folds the product, as wyhash does.
#[derive(Debug)]
pub(super) struct Folder {
    state: u64,
    secret: u64,
}

impl Hasher for Folder {
    fn write(&mut self, bytes: &[u8]) {
        for &byte in bytes {
            self.write_u128(byte.into());
        }
    }

    fn write_u128(&mut self, words: u128) {
        self.state = fold(self.state ^ high_64(words), self.secret ^ low_64(words));
    }

    fn finish(&self) -> u64 {
        fold(self.state, self.secret)
    }
}

const fn fold(left: u64, right: u64) -> u64 {
    let product = left as u128 * right as u128;
    low_64(product) ^ high_64(product)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    #[test]
    fn a_key_gives_its_addresses_back() {
        for (client, server) in [("1.2.3.4:5", "9.8.7.6:65535"), ("[::1]:1", "[fd00::7]:2"), ("[::5]:0", "[::1:2]:0")] {
            let (client, server) = (client.parse().unwrap(), server.parse().unwrap());
            let key = Key::new(client, server);
            assert_eq!((key.client(), key.server()), (client, server));
        }
        let mapped = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_ne!(
            Key::new(mapped("1.2.3.4:1"), mapped("1.2.3.4:2")),
            Key::new(mapped("[::102:304]:1"), mapped("[::102:304]:2"))
        );
    }

    #[test]
    fn neighbours_hash_apart_and_by_the_seed() {
        let keys = || {
            (0..64).flat_map(|host| {
                (0..256).map(move |port| Key::new(([10, 0, 0, host], 40_000 + port).into(), ([10, 0, 1, 1], 80).into()))
            })
        };
        let hashes = |seed| keys().map(move |key| Seed::new(seed).hash_one(key)).collect::<HashSet<_>>();
        let low_bits = |seed| hashes(seed).iter().map(|hash| hash & 0xffff).collect::<HashSet<_>>().len();
        assert_eq!(hashes(0).len(), 64 * 256);
        // 16,384 balls in 65,536 bins fill 14,500 of them when thrown at random.
        assert!(low_bits(0) > 14_000 && low_bits(7) > 14_000, "{} {}", low_bits(0), low_bits(7));
        assert!(hashes(0).is_disjoint(&hashes(1)));
    }
}
