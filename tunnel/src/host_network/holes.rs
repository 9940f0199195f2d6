//! Prefixes without some addresses: what is never captured is left out of the routes, so nothing of it outlives the device.
//!
//! Pure. `throw` routes or rules for the exceptions would be shorter, but they belong to no device and would stay after a SIGKILL.
//! Before and after: `plan`.

use std::net::IpAddr;

use link::prefix::Prefix;

/// The smallest set of prefixes that covers `prefix` and none of `holes`, in order: at most 32 for each IPv4 hole, 128 for IPv6.
pub(super) fn without(prefix: Prefix, holes: &[IpAddr]) -> Vec<Prefix> {
    if !holes.iter().any(|hole| prefix.contains(*hole)) {
        return vec![prefix];
    }
    let Some((lower, upper)) = halves(prefix) else { return Vec::new() };
    let mut kept = without(lower, holes);
    kept.append(&mut without(upper, holes));
    kept
}

/// The two halves; `None` for a single address.
fn halves(prefix: Prefix) -> Option<(Prefix, Prefix)> {
    let bits = prefix.bits() + 1;
    let lower = Prefix::new(prefix.address(), bits)?;
    let upper: IpAddr = match prefix.address() {
        IpAddr::V4(v4) => (v4.to_bits() | 1 << (32 - u32::from(bits))).to_be_bytes().into(),
        IpAddr::V6(v6) => (v6.to_bits() | 1 << (128 - u32::from(bits))).to_be_bytes().into(),
    };
    Some((lower, Prefix::new(upper, bits)?))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_hole_in_a_small_prefix() {
        let kept = without("10.0.0.0/30".parse().unwrap(), &["10.0.0.2".parse().unwrap()]);
        let kept: Vec<String> = kept.iter().map(ToString::to_string).collect();
        assert_eq!(kept, ["10.0.0.0/31", "10.0.0.3/32"]);
        assert_eq!(without("10.0.0.2/32".parse().unwrap(), &["10.0.0.2".parse().unwrap()]), []);
        let whole = "fd00::/64".parse().unwrap();
        assert_eq!(without(whole, &["10.0.0.2".parse().unwrap()]), [whole]);
        assert_eq!(without(whole, &["fd00::5".parse().unwrap()]).len(), 64);
    }

    proptest! {
        #[test]
        fn only_the_holes_are_missing(bits in 8u8..=32, holes in prop::collection::vec(0u32..64, 0..4), probe in 0u32..64) {
            let base = 0x0a60_0000_u32;
            let address = |host: u32| IpAddr::from((base | host).to_be_bytes());
            let prefix = Prefix::new(address(0), bits).unwrap();
            let holes: Vec<IpAddr> = holes.into_iter().map(address).collect();
            let kept = without(prefix, &holes);
            let covered = kept.iter().filter(|kept| kept.contains(address(probe))).count();
            let wanted = prefix.contains(address(probe)) && !holes.contains(&address(probe));
            prop_assert_eq!(covered, usize::from(wanted));
            prop_assert!(kept.len() <= 1 + 32 * holes.len());
        }
    }
}
