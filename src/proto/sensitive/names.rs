//! Names that say that what they name is secret.

/// What stands in the place of a secret.
pub const MASK: &str = "********";
/// What the name of a secret contains: its letters, small, and digits.
pub(super) const NAMES: [&str; 10] = [
    "password",
    "passwd",
    "passphrase",
    "pwd",
    "secret",
    "token",
    "apikey",
    "privatekey",
    "credential",
    "authorization",
];
/// Bytes of names that are looked at without an allocation: longer ones are rare.
const SHORT_BYTES: usize = 64;

/// Whether what has this name is secret.
pub fn is_secret_name(name: &str) -> bool {
    if name.len() > SHORT_BYTES || !name.is_ascii() {
        let letters = name.chars().filter(|c| c.is_alphanumeric());
        let name: String = letters.flat_map(char::to_lowercase).collect();
        return NAMES.iter().any(|secret| name.contains(secret));
    }
    // Every payload has its names looked at, and most have none of these.
    let mut letters = [0; SHORT_BYTES];
    let mut count = 0;
    for byte in name.bytes().filter(u8::is_ascii_alphanumeric) {
        letters[count] = byte.to_ascii_lowercase();
        count += 1;
    }
    let letters = &letters[..count];
    (0..count).any(|at| {
        let rest = &letters[at..];
        matches!(rest[0], b'p' | b's' | b't' | b'a' | b'c')
            && NAMES
                .iter()
                .any(|secret| rest.starts_with(secret.as_bytes()))
    })
}
