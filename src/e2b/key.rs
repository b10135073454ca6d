//! The text of an API key, in the two forms of OpenKruise Agents, and its digest.
//!
//! A key is any text. In its issued form it is `e2b_` and hexadecimal digits, because some SDKs accept no other: the
//! digits of a magic number, a version, the length, the text itself, and a checksum. A client may send either form.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, SHA256_OUTPUT_LEN, digest};
use secrecy::{ExposeSecret, SecretString};
use uuid::Uuid;

const PREFIX: &str = "e2b_";
/// `okag` in hexadecimal digits, and the version 1.
const HEADER: &str = "6f6b616701";
/// What the checksum begins with, so that no other SHA-256 is a checksum.
const DOMAIN: &str = "openkruise-agents/e2b-key-compat/v1";
/// Digits of the checksum: eight bytes.
const CHECKSUM_DIGITS: usize = 16;
const LENGTH_DIGITS: usize = 8;

/// No key is longer. A longer text in a header is not looked at.
const LONGEST: usize = 1024;

/// A new key, which nobody can guess: 122 random bits.
pub(super) fn generate() -> SecretString {
    Uuid::new_v4().to_string().into()
}

/// Returns the issued form of a key.
pub(super) fn issued(key: &SecretString) -> SecretString {
    let key = key.expose_secret();
    let checksum = checksum(key);
    format!("{PREFIX}{HEADER}{:08x}{}{checksum}", key.len(), hex(key.as_bytes())).into()
}

/// Returns the key of a text that a client has sent: the issued form is decoded, any other text is the key itself.
/// `None` if the text is too long for a key, or empty.
pub(super) fn presented(text: &str) -> Option<SecretString> {
    if text.is_empty() || text.len() > LONGEST {
        return None;
    }
    Some(decode(text).unwrap_or_else(|| text.to_owned()).into())
}

fn decode(text: &str) -> Option<String> {
    let rest = text.strip_prefix(PREFIX)?.strip_prefix(HEADER)?;
    let (length, rest) = rest.split_at_checked(LENGTH_DIGITS)?;
    let length = usize::from_str_radix(length, 16).ok()?;
    let (key, found) = rest.split_at_checked(length.checked_mul(2)?)?;
    let key = String::from_utf8(unhex(key)?).ok()?;
    (found == checksum(&key)).then_some(key)
}

fn checksum(key: &str) -> String {
    let mut text = hex(digest(&SHA256, format!("{DOMAIN}{key}").as_bytes()).as_ref());
    text.truncate(CHECKSUM_DIGITS);
    text
}

/// The SHA-256 of a key. Keys are compared by their digests: the time of a comparison says nothing about a key.
#[derive(Clone, Copy)]
pub(super) struct KeyDigest([u8; SHA256_OUTPUT_LEN]);

impl KeyDigest {
    pub(super) fn of(key: &SecretString) -> Self {
        let mut bytes = [0; SHA256_OUTPUT_LEN];
        bytes.copy_from_slice(digest(&SHA256, key.expose_secret().as_bytes()).as_ref());
        Self(bytes)
    }

    /// Compares in constant time.
    pub(super) fn is(&self, other: &Self) -> bool {
        verify_slices_are_equal(&self.0, &other.0).is_ok()
    }

    /// The part by which a key is looked up. Whoever can choose it has found a part of a SHA-256, not of a key.
    pub(super) fn bucket(&self) -> [u8; 8] {
        let mut bucket = [0; 8];
        bucket.copy_from_slice(&self.0[..8]);
        bucket
    }
}

/// The SHA-256 of a text in hexadecimal digits.
pub(super) fn sha256_hex(text: &[u8]) -> String {
    hex(digest(&SHA256, text).as_ref())
}

fn hex(bytes: &[u8]) -> String {
    const DIGITS: &[u8; 16] = b"0123456789abcdef";
    let digits = bytes.iter().flat_map(|byte| [byte >> 4, byte & 15]);
    digits.map(|digit| char::from(DIGITS[usize::from(digit)])).collect()
}

fn unhex(text: &str) -> Option<Vec<u8>> {
    let digit = |byte: u8| char::from(byte).to_digit(16).and_then(|digit| u8::try_from(digit).ok());
    let pairs = text.as_bytes().chunks_exact(2);
    pairs.map(|pair| Some(digit(pair[0])? << 4 | digit(pair[1])?)).collect()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn e2b_4_2_an_issued_key_has_the_form_that_every_sdk_accepts() {
        let key = generate();
        let issued = issued(&key);
        let digits = issued.expose_secret().strip_prefix("e2b_").unwrap();
        assert!(digits.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')));
        assert!(digits.starts_with("6f6b61670100000024"), "{digits}");
        assert_eq!(presented(issued.expose_secret()).unwrap().expose_secret(), key.expose_secret());
    }

    #[test]
    fn e2b_4_2_a_text_that_is_no_issued_key_is_the_key_itself() {
        let issued = issued(&"secret".to_owned().into()).expose_secret().to_owned();
        let spoiled = format!("{}0", &issued[..issued.len() - 1]);
        for text in
            ["e2b_00", "0f3a1c9e-6d2b", "e2b_6f6b616701ffffffff", &spoiled, "e2b_6f6b61670100000001é0"]
        {
            assert_eq!(presented(text).unwrap().expose_secret(), text);
        }
        assert!(presented("").is_none() && presented(&"a".repeat(1025)).is_none());
    }

    #[test]
    fn keys_are_equal_if_their_texts_are() {
        let digest = |text: &str| KeyDigest::of(&text.to_owned().into());
        assert!(digest("a").is(&digest("a")));
        assert!(!digest("a").is(&digest("b")));
        assert_eq!(sha256_hex(b"abc")[..16], *"ba7816bf8f01cfea");
    }

    proptest! {
        #[test]
        fn every_key_survives_its_issued_form(key in "\\PC{1,60}") {
            let issued = issued(&key.clone().into());
            let read = presented(issued.expose_secret()).unwrap();
            prop_assert_eq!(read.expose_secret(), key.as_str());
        }

        #[test]
        fn any_text_is_read(text in "(e2b_)?(6f6b616701)?[0-9a-fé]{0,40}") {
            presented(&text);
        }
    }
}
