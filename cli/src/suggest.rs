//! What somebody may have meant who wrote a name that does not exist.

/// "unknown field "wieght": did you mean weight?", or all there are when nothing is close.
pub(crate) fn unknown(what: &str, given: &str, known: &[&str]) -> String {
    match nearest(given, known) {
        Some(near) => format!("unknown {what} {given:?}: did you mean {near}?"),
        None if known.is_empty() => format!("unknown {what} {given:?}: there are none"),
        None => format!("unknown {what} {given:?}: there are {}", known.join(", ")),
    }
}

/// The name most like `given`, if any is much like it.
pub(crate) fn nearest<'a>(given: &str, known: &[&'a str]) -> Option<&'a str> {
    let given = given.to_lowercase();
    let likeness = |name: &&str| strsim::jaro_winkler(&given, &name.to_lowercase());
    known
        .iter()
        .map(|name| (likeness(name), *name))
        .filter(|(likeness, _)| *likeness > 0.8)
        .max_by(|a, b| a.0.total_cmp(&b.0))
        .map(|(_, name)| name)
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
        assert!(unknown("field", "zzz", &known).contains("there are weight, priority"));
        assert!(unknown("service", "x", &[]).contains("there are none"));
    }
}
