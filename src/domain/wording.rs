//! Numbers in sentences for people.

use std::fmt::Display;

/// A number and its noun: `1 job`, `2 jobs`. For nouns of which more than one end in s.
pub fn count<N: Display + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    let plural = if number == N::from(1) { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_alone_is_singular() {
        assert_eq!(count(0_u64, "job"), "0 jobs");
        assert_eq!(count(1_usize, "job"), "1 job");
        assert_eq!(count(2_i64, "child job"), "2 child jobs");
    }
}
