//! What somebody may have meant who wrote a name that does not exist.

/// "unknown field "wieght": did you mean weight?", or all there are when nothing is close.
pub(crate) fn unknown(what: &str, given: &str, known: &[&str]) -> String {
    match nearest(given, known) {
        Some(near) => format!("unknown {what} {given:?}: did you mean {near}?"),
        None if known.is_empty() => format!("unknown {what} {given:?}: there are none"),
        None => format!("unknown {what} {given:?}: there are {}", known.join(", ")),
    }
}

/// The name most like `given`, if any is much like it and no other just as much.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase();
    let likeness = |name: &&str| strsim::jaro_winkler(&given, &name.to_lowercase());
    let mut like: Vec<(f64, &str)> = known
        .iter()
        .map(|name| (likeness(name), *name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .collect();
    like.sort_by(|a, b| b.0.total_cmp(&a.0));
    match like.as_slice() {
        [(best, _), (next, _), ..] if best <= next => None,
        [(_, name), ..] => Some(name),
        [] => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_name_is_offered() {
        let known = ["weight", "priority", "maxConnections"];
        assert_eq!(
            unknown("field", "wieght", &known),
            r#"unknown field "wieght": did you mean weight?"#
        );
        assert_eq!(nearest("max_connection", &known), Some("maxConnections"));
        assert_eq!(nearest("pacs-9", &["pacs-1", "pacs-2"]), None, "both are as like");
        assert!(unknown("field", "zzz", &known).contains("there are weight, priority"));
        assert!(unknown("service", "x", &[]).contains("there are none"));
    }
}
