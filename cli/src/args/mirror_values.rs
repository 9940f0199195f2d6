//! Targets, ports, shares and rates as people write them. A value that cannot be read is answered with the right form.
//! Before: [`super::mirror`]; after: [`crate::commands`].

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use link::rules::Sample;

/// A target as it was typed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TargetName(String);

impl TargetName {
    /// `NAMESPACE/KIND/NAME`; a target that names no namespace is in `namespace`.
    pub fn in_namespace(&self, namespace: &str) -> String {
        if self.0.matches('/').count() == 1 { format!("{namespace}/{}", self.0) } else { self.0.clone() }
    }
}

/// A port of a target, and where its copy goes when that is said.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mapping {
    /// The target's port.
    pub port: u16,
    /// The program's address.
    pub listener: Option<SocketAddr>,
}

impl Mapping {
    /// The program's address: the same port of this machine's loopback when nothing was said.
    pub fn listener(self) -> SocketAddr {
        self.listener.unwrap_or_else(|| SocketAddr::new(LOOPBACK, self.port))
    }
}

/// Which rules a command is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Which {
    /// All.
    All,
    /// Those for a port.
    Port(u16),
    /// Those for a target, by its name or the last parts of it.
    Target(String),
}

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

pub(super) fn target(text: &str) -> Result<TargetName, String> {
    let parts: Vec<&str> = text.split('/').collect();
    if (2..=3).contains(&parts.len()) && parts.iter().all(|part| is_name(part)) {
        return Ok(TargetName(text.to_owned()));
    }
    let form = "a target is NAMESPACE/KIND/NAME or KIND/NAME, such as shop/deploy/web or deploy/web";
    if text.contains('/') {
        return Err(form.to_owned());
    }
    Err(format!("{form}; what can be done with rules is on, off, rm and list"))
}

fn is_name(text: &str) -> bool {
    (1..=253).contains(&text.len())
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || [b'-', b'.'].contains(&byte))
}

pub(super) fn port(text: &str) -> Result<u16, String> {
    let number = text.parse::<u16>().ok().filter(|port| *port != 0);
    number.ok_or_else(|| format!("'{text}' is no port: write a number from 1 to 65535"))
}

pub(super) fn mapping(text: &str) -> Result<Mapping, String> {
    let Some((target, here)) = text.split_once(':') else {
        return Ok(Mapping { port: port(text).map_err(with_form)?, listener: None });
    };
    let listener = match here.rsplit_once(':') {
        Some((host, here)) => SocketAddr::new(address(host)?, port(here).map_err(with_form)?),
        None => SocketAddr::new(LOOPBACK, port(here).map_err(with_form)?),
    };
    Ok(Mapping { port: port(target).map_err(with_form)?, listener: Some(listener) })
}

fn with_form(problem: String) -> String {
    format!("{problem}; the form is 8080, 8080:3000, 8080:127.0.0.1:3000 or 8080:[::1]:3000")
}

fn address(text: &str) -> Result<IpAddr, String> {
    if text == "localhost" {
        return Ok(LOOPBACK);
    }
    let bracketed = text.strip_prefix('[').and_then(|rest| rest.strip_suffix(']'));
    let parsed = match bracketed {
        Some(v6) => v6.parse().ok().map(IpAddr::V6),
        None => text.parse().ok().map(IpAddr::V4),
    };
    parsed.ok_or_else(|| with_form(format!("'{text}' is no address of a program: IPv6 is in brackets")))
}

pub(super) fn which(text: &str) -> Result<Which, String> {
    if text == "all" {
        return Ok(Which::All);
    }
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return port(text).map(Which::Port);
    }
    if text.split('/').count() <= 3 && text.split('/').all(is_name) {
        return Ok(Which::Target(text.to_owned()));
    }
    Err("write the target's port, the target, or all: 8080, shop/deploy/web".to_owned())
}

pub(super) fn replica(text: &str) -> Result<String, String> {
    if is_name(text) { Ok(text.to_owned()) } else { Err("a replica is named like web-1".to_owned()) }
}

pub(super) fn sample(text: &str) -> Result<Sample, String> {
    let percent = text.strip_suffix('%').and_then(|number| number.parse::<f64>().ok());
    let percent = percent.filter(|percent| (0.0001..=100.0).contains(percent));
    let percent =
        percent.ok_or_else(|| "write a share of the connections such as 10%, from 0.0001% to 100%".to_owned())?;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 1,000,000")]
    let millionths = (percent * 10_000.0).round() as u32;
    Ok(Sample::millionths(millionths))
}

/// Bytes a second. A bare number is bytes; bits only where `bit` says so.
pub(super) fn rate(text: &str) -> Result<u64, String> {
    const UNITS: [(&str, f64); 11] = [
        ("KiB", 1024.0),
        ("MiB", 1024.0 * 1024.0),
        ("GiB", 1024.0 * 1024.0 * 1024.0),
        ("kbit", 1e3 / 8.0),
        ("Mbit", 1e6 / 8.0),
        ("Gbit", 1e9 / 8.0),
        ("kB", 1e3),
        ("KB", 1e3),
        ("MB", 1e6),
        ("GB", 1e9),
        ("B", 1.0),
    ];
    let wrong = || "write bytes or bits a second such as 500kB/s, 5MB/s, 1MiB/s or 10Mbit/s".to_owned();
    let amount = text.strip_suffix("/s").unwrap_or(text);
    let unit = UNITS.iter().find_map(|(unit, bytes)| amount.strip_suffix(unit).map(|number| (number, *bytes)));
    let (number, bytes) = unit.unwrap_or((amount, 1.0));
    let rate = number.trim().parse::<f64>().map_err(|_| wrong())? * bytes;
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 10^15")]
    let whole = (1.0..=1e15).contains(&rate).then_some(rate as u64);
    whole.ok_or_else(wrong)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ports_are_mapped_as_they_are_written() {
        let listener = |text: &str| mapping(text).map(|mapping| (mapping.port, mapping.listener().to_string()));
        assert_eq!(listener("8080"), Ok((8080, "127.0.0.1:8080".to_owned())));
        assert_eq!(listener("8080:3000"), Ok((8080, "127.0.0.1:3000".to_owned())));
        assert_eq!(listener("8080:192.0.2.1:3000"), Ok((8080, "192.0.2.1:3000".to_owned())));
        assert_eq!(listener("8080:localhost:3000"), Ok((8080, "127.0.0.1:3000".to_owned())));
        assert_eq!(listener("8080:[::1]:3000"), Ok((8080, "[::1]:3000".to_owned())));
        for wrong in ["", ":", "8080:", "0", "65536", "8080:0", "8080:::1:3000", "8080:web:3000", "8080:[::1]", "x:1"] {
            let told = mapping(wrong).unwrap_err();
            assert!(told.contains("8080:[::1]:3000"), "{wrong}: {told}");
        }
    }

    #[test]
    fn a_target_without_a_namespace_is_in_the_sessions() {
        let name = |text: &str| target(text).map(|name| name.in_namespace("shop"));
        assert_eq!(name("deploy/web"), Ok("shop/deploy/web".to_owned()));
        assert_eq!(name("other/deploy/web"), Ok("other/deploy/web".to_owned()));
        for wrong in ["web", "a/b/c/d", "/web", "shop//web", "shop/deploy/", "shop/deploy/w b"] {
            assert!(name(wrong).unwrap_err().contains("NAMESPACE/KIND/NAME"), "{wrong}");
        }
    }

    #[test]
    fn rules_are_chosen_by_port_target_or_all() {
        assert_eq!(which("all"), Ok(Which::All));
        assert_eq!(which("8080"), Ok(Which::Port(8080)));
        assert_eq!(which("deploy/web"), Ok(Which::Target("deploy/web".to_owned())));
        for wrong in ["0", "70000", "8080:3000", "/", "a/b/c/d", ""] {
            which(wrong).unwrap_err();
        }
    }

    #[test]
    fn shares_and_rates_have_units() {
        assert_eq!(sample("10%").map(Sample::as_millionths), Ok(100_000));
        assert_eq!(sample("0.5%").map(Sample::as_millionths), Ok(5_000));
        for wrong in ["10", "0%", "101%", "-1%", "x%", "NaN%"] {
            assert!(sample(wrong).unwrap_err().contains("10%"), "{wrong}");
        }
        for (text, bytes) in
            [("5MB/s", 5_000_000), ("1MiB/s", 1 << 20), ("500kB", 500_000), ("10Mbit/s", 1_250_000), ("300", 300)]
        {
            assert_eq!(rate(text), Ok(bytes), "{text}");
        }
        for wrong in ["", "MB/s", "-5MB/s", "5 parsecs", "0", "infB", "1e300GB"] {
            assert!(rate(wrong).unwrap_err().contains("5MB/s"), "{wrong}");
        }
    }
}
