//! What a registry says it wants before it answers.

/// Longest header that is read, and most parameters of one.
const MAX_HEADER: usize = 4 << 10;
const MAX_PARAMETERS: usize = 16;

/// What a registry wants. Registry-controlled.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Challenge {
    /// A name and a password.
    Basic,
    /// A token that another address gives.
    Bearer {
        /// The address.
        realm: String,
        /// What to name there, if anything.
        service: Option<String>,
    },
}

impl Challenge {
    /// Reads a `WWW-Authenticate` header; none when it wants something that nobody here knows.
    pub(super) fn parse(header: &str) -> Option<Self> {
        if header.len() > MAX_HEADER {
            return None;
        }
        let (scheme, rest) = header.trim().split_once(' ').unwrap_or((header.trim(), ""));
        if scheme.eq_ignore_ascii_case("basic") {
            return Some(Self::Basic);
        }
        if !scheme.eq_ignore_ascii_case("bearer") {
            return None;
        }
        let parameters = parameters(rest)?;
        let find = |wanted: &str| parameters.iter().find(|(name, _)| name.eq_ignore_ascii_case(wanted));
        let (_, realm) = find("realm")?;
        Some(Self::Bearer { realm: realm.clone(), service: find("service").map(|(_, value)| value.clone()) })
    }
}

/// `name="value", name=value`; none when it is something else.
fn parameters(text: &str) -> Option<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=')?;
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => quoted.split_once('"')?,
            None => after.split_at(after.find(',').unwrap_or(after.len())),
        };
        if value.contains('\\') || found.len() == MAX_PARAMETERS {
            return None;
        }
        found.push((name.trim().to_owned(), value.trim().to_owned()));
        rest = after.trim_start();
        if !rest.is_empty() {
            rest = rest.strip_prefix(',')?.trim_start();
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn the_two_kinds_are_read() {
        let bearer = |realm: &str, service: Option<&str>| {
            Some(Challenge::Bearer { realm: realm.to_owned(), service: service.map(str::to_owned) })
        };
        for (header, challenge) in [
            ("Basic realm=\"here\"", Some(Challenge::Basic)),
            ("basic", Some(Challenge::Basic)),
            (
                "Bearer realm=\"https://a.example/token\",service=\"r.example\",scope=\"a,b\"",
                bearer("https://a.example/token", Some("r.example")),
            ),
            ("Bearer realm=https://a.example/token", bearer("https://a.example/token", None)),
            ("Bearer service=\"x\"", None),
            ("Bearer realm=\"open", None),
            ("Negotiate", None),
            ("", None),
        ] {
            assert_eq!(Challenge::parse(header), challenge, "{header}");
        }
        assert_eq!(Challenge::parse(&format!("Bearer realm=\"{}\"", "x".repeat(MAX_HEADER))), None);
    }

    proptest! {
        #[test]
        fn any_header_is_read_or_refused(header in "(Bearer |Basic )?[a-z=\", \\\\]{0,60}") {
            let _ = Challenge::parse(&header);
        }
    }
}
