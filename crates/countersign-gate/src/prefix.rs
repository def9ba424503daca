//! Ids under a prefix that ends in `*` (DIR-1, GRT-1).

use crate::fold::{folded, is_blank};

/// Whether an id begins with a prefix and stays under it: what follows has no part that another
/// reader takes as a way out of it.
pub(crate) fn is_under(id: &str, prefix: &str) -> bool {
    id.starts_with(prefix) && stays(id, prefix.len())
}

/// Whether no part of an id, from so many bytes on, is empty or made of points alone, and none has a
/// backslash, a sign that nobody sees, or either of them, a slash or a point in another dress.
fn stays(id: &str, from: usize) -> bool {
    let mut start = 0;
    id.split('/').all(|part| {
        let end = start + part.len();
        start = end + 1;
        end < from || is_plain(part)
    })
}

fn is_plain(part: &str) -> bool {
    // Some servers cut parameters off before they resolve a path.
    let name = part.split(';').next().unwrap_or_default();
    let lower = part.to_ascii_lowercase();
    let hides = ["%2e", "%2f", "%5c", "%25"].iter().any(|code| lower.contains(code));
    !is_blank(name.trim_matches('.'))
        && !hides
        && !part.contains(|c: char| c == '\\' || c.is_control())
        && folded(part) == plain_dashes(part)
}

/// Dashes of every length are dashes to whoever reads them, and lead nowhere.
fn plain_dashes(part: &str) -> String {
    part.replace(|c: char| ('\u{2010}'..='\u{2015}').contains(&c) || c == '\u{2212}', "-")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An attack review's `dev/../prod/x` was a resource of dev, under a grant for dev.
    #[test]
    fn no_way_leads_out_of_a_prefix() {
        for id in [
            "dev/x",
            "dev/a.b/c-d",
            "dev/..x",
            "dev/a b",
            "dev/a%20b",
            "dev/\u{e9}",
            "dev/a\u{2013}b",
        ] {
            assert!(is_under(id, "dev/"), "{id}");
        }
        for id in [
            "dev/../prod/x",
            "dev/..",
            "dev/.",
            "dev/./x",
            "dev//x",
            "dev/",
            "dev/x/",
            "dev/...",
            "dev/.. /x",
            "dev/..;a/x",
            "dev/\\..\\prod",
            "dev/a\\b",
            "dev/%2e%2e/prod",
            "dev/..%2Fprod",
            "dev/%252e",
            "dev/\u{ff0e}\u{ff0e}/x",
            "dev/a\u{2215}b",
            "dev/.\u{200b}./x",
            "dev/a\0b",
            "prod/x",
        ] {
            assert!(!is_under(id, "dev/"), "{id}");
        }
        // What stands in the prefix itself was written by whoever wrote the prefix.
        assert!(is_under("s3://bucket/x", "s3://"));
        assert!(!is_under("s3://bucket//x", "s3://"));
        assert!(is_under("dev-1", "dev-"));
        assert!(!is_under("dev-/../prod", "dev-"));
        assert!(is_under("dev/x", "dev"));
        assert!(!is_under("", ""));
    }
}
