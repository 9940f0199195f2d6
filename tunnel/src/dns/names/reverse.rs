//! Reverse names: which addresses a name under `in-addr.arpa` or `ip6.arpa` is about. Pure. Before and after: [`super::Names`].

use std::net::IpAddr;

use link::prefix::Prefix;

use super::Name;

/// The addresses that a name under `in-addr.arpa` or `ip6.arpa` is about; labels in front of the numbers (`_dns-sd`) do not count.
pub(super) fn reverse_prefix(name: &Name) -> Option<Prefix> {
    let mut labels: Vec<&[u8]> = name.labels().collect();
    if !labels.pop()?.eq_ignore_ascii_case(b"arpa") {
        return None;
    }
    let family = labels.pop()?;
    if family.eq_ignore_ascii_case(b"in-addr") {
        let mut octets = [0u8; 4];
        let numbers = labels.iter().rev().map_while(|label| std::str::from_utf8(label).ok()?.parse::<u8>().ok());
        let count = octets.iter_mut().zip(numbers).map(|(octet, number)| *octet = number).count();
        return Prefix::new(IpAddr::from(octets), u8::try_from(count * 8).ok()?);
    }
    if !family.eq_ignore_ascii_case(b"ip6") {
        return None;
    }
    let mut address = 0u128;
    let mut bits = 0u8;
    let nibble = |label: &&[u8]| if let [digit] = label { char::from(*digit).to_digit(16) } else { None };
    for digit in labels.iter().rev().map_while(nibble).take(32) {
        bits += 4;
        address |= u128::from(digit) << (128 - bits);
    }
    Prefix::new(IpAddr::from(address.to_be_bytes()), bits)
}
