//! What every certificate of ours has in common: times, a random serial number, and keys in PEM without stray copies.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair, SerialNumber};
use zeroize::{Zeroize, Zeroizing};

use crate::CLOCK_TOLERANCE;

/// 16 random bytes: RFC 5280 asks for at most 20 octets, CA/B rules for at least 64 random bits.
const SERIAL_BYTES: usize = 16;

/// A certificate's parameters: the subject, a random serial number, valid from a clock tolerance ago to `validity` from `now`.
pub(crate) fn params(common_name: &str, validity: Duration, now: SystemTime) -> CertificateParams {
    let mut params = CertificateParams::default();
    let since_epoch = now.duration_since(UNIX_EPOCH).unwrap_or_default();
    let epoch = rcgen::date_time_ymd(1970, 1, 1);
    params.not_before = epoch + since_epoch.saturating_sub(CLOCK_TOLERANCE);
    params.not_after = epoch + since_epoch + validity;
    let mut serial: [u8; SERIAL_BYTES] = rand::random();
    // A serial number is a positive integer of a fixed length: no sign bit, no leading zero.
    serial[0] = (serial[0] & 0x7f) | 0x40;
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.distinguished_name = DistinguishedName::new();
    params.distinguished_name.push(DnType::CommonName, common_name);
    params.use_authority_key_identifier_extension = true;
    params
}

/// The key as PEM, then wiped from `key`'s own serialized copy: it goes on signing from the library's key object.
pub(crate) fn take_pem(key: &mut KeyPair) -> Zeroizing<String> {
    let pem = key_pem(key.serialized_der());
    key.zeroize();
    pem
}

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";

/// PKCS #8 in PEM (RFC 7468). Written here because the libraries' encoders leave copies of the key on the heap.
fn key_pem(der: &[u8]) -> Zeroizing<String> {
    // Sized for all of it up front, so that growing leaves no copy behind.
    let mut pem = Zeroizing::new(String::with_capacity(128 + der.len() * 2));
    pem.push_str("-----BEGIN PRIVATE KEY-----\n");
    for line in der.chunks(48) {
        for group in line.chunks(3) {
            let byte = |at: usize| u32::from(group.get(at).copied().unwrap_or(0));
            let bits = byte(0) << 16 | byte(1) << 8 | byte(2);
            for digit in 0..4 {
                let sextet = (bits >> (18 - 6 * digit)) & 0x3f;
                pem.push(if digit > group.len() { '=' } else { char::from(ALPHABET[sextet as usize]) });
            }
        }
        pem.push('\n');
    }
    pem.push_str("-----END PRIVATE KEY-----\n");
    pem
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_survives_its_pem_and_signs_after_the_wipe() {
        let mut key = KeyPair::generate().unwrap();
        let (theirs, ours) = (key.serialize_pem(), take_pem(&mut key));
        assert_eq!(theirs.replace('\r', ""), *ours);
        assert!(key.serialized_der().is_empty());
        assert!(rcgen::SigningKey::sign(&key, b"message").is_ok());
    }

    #[test]
    fn every_length_is_padded_as_the_rfc_says() {
        for (der, body) in [(&b"f"[..], "Zg=="), (b"fo", "Zm8="), (b"foo", "Zm9v"), (b"foob", "Zm9vYg==")] {
            assert_eq!(key_pem(der).lines().nth(1), Some(body));
        }
    }
}
