//! Lists of what a reader would have, each with a weight (RFC 9110, 12.4.2), such as `Accept` and `Accept-Language`.

/// What is wanted as much as can be.
const MOST: u16 = 1_000;

/// The wanted items of a list, dearest first, and in their own order where they are as dear: `fr;q=0.8, en;q=0.2`. What has a weight of 0, or none that can be
/// read, is not wanted.
pub(crate) fn wanted(list: &str) -> impl Iterator<Item = &str> {
    let items = list.split(',').filter_map(|item| {
        let mut parts = item.split(';').map(str::trim);
        let name = parts.next().filter(|name| !name.is_empty())?;
        Some((weight(parts)?, name))
    });
    let mut items: Vec<(u16, &str)> = items.filter(|(weight, _)| *weight > 0).collect();
    items.sort_by_key(|(weight, _)| std::cmp::Reverse(*weight));
    items.into_iter().map(|(_, name)| name)
}

/// The weight among parameters, in thousandths; the most if there is none. Whole numbers: of these, each is more, less or the same.
fn weight<'a>(mut parameters: impl Iterator<Item = &'a str>) -> Option<u16> {
    let said = parameters.find_map(|parameter| {
        let (name, value) = parameter.split_once('=')?;
        name.trim_end()
            .eq_ignore_ascii_case("q")
            .then(|| value.trim())
    });
    let Some(said) = said else {
        return Some(MOST);
    };
    let (whole, fraction) = said.split_once('.').unwrap_or((said, ""));
    let are_digits = fraction.bytes().all(|byte| byte.is_ascii_digit());
    let thousandths = match fraction.len() {
        0..=3 if are_digits => format!("{fraction:0<3}").parse::<u16>().ok()?,
        _ => return None,
    };
    match (whole, thousandths) {
        ("0", _) => Some(thousandths),
        ("1", 0) => Some(MOST),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_dearest_comes_first_and_what_is_refused_not_at_all() {
        for (list, items) in [
            ("", &[] as &[&str]),
            ("a, b", &["a", "b"]),
            ("a;q=0.1, b;q=0.12, c", &["c", "b", "a"]),
            ("a;q=0, b;q=0.0, c;q=0.000", &[]),
            ("a;q=1.000;x=y, b ; x=1 ; Q = 0.5", &["a", "b"]),
            (
                "a;q=nan, b;q=1.001, c;q=-1, d;q=0.1234, e;q=1e0, f;q=, g;q=2, h;q=inf",
                &[],
            ),
            (";q=1, , ;", &[]),
        ] {
            assert_eq!(wanted(list).collect::<Vec<_>>(), items, "{list}");
        }
    }
}
