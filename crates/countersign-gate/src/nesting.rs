//! How deep a text nests, before a parser that recurses sees it (POL-6): Cedar's own would end the
//! process on a text that its stack can't hold, and such a text may come from anybody's evidence.

/// Brackets that may stand within each other.
const DEPTH_MAX: usize = 32;
/// Operators that one policy or declaration may have: each may nest the rest one deeper.
const OPERATORS_MAX: usize = 1000;

/// Whether a text of Cedar's stays within both. `angles` says that `<` and `>` are brackets too, as in
/// a schema.
pub(crate) fn is_shallow(text: &str, angles: bool) -> bool {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    let mut rest = text.chars().peekable();
    let mut word = String::new();
    while let Some(c) = rest.next() {
        if c.is_ascii_alphanumeric() || c == '_' {
            word.push(c);
            continue;
        }
        // Each `if` holds three expressions.
        operators += usize::from(std::mem::take(&mut word) == "if");
        match c {
            '"' => skip_text(&mut rest),
            '/' if rest.peek() == Some(&'/') => {
                while rest.next_if(|c| *c != '\n' && *c != '\r').is_some() {}
            }
            '(' | '[' | '{' => depth += 1,
            '<' if angles => depth += 1,
            ')' | ']' | '}' => depth = depth.saturating_sub(1),
            '>' if angles => depth = depth.saturating_sub(1),
            '&' | '|' | '+' | '-' | '*' | '!' | '.' => operators += 1,
            ';' => operators = 0,
            _ => {}
        }
        if depth > DEPTH_MAX || operators > OPERATORS_MAX {
            return false;
        }
    }
    true
}

fn skip_text(rest: &mut std::iter::Peekable<std::str::Chars<'_>>) {
    while let Some(c) = rest.next() {
        match c {
            '\\' => drop(rest.next()),
            '"' => return,
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn brackets_and_operators_are_counted_outside_of_texts_and_comments() {
        let deep = |n: usize| "(".repeat(n) + &")".repeat(n);
        assert!(is_shallow(&deep(32), false));
        assert!(!is_shallow(&deep(33), false));
        assert!(is_shallow(&format!("\"{}\\\"{}\"", deep(40), deep(40)), false));
        assert!(is_shallow(&format!("// {}\n", "(".repeat(40)), false));
        assert!(!is_shallow(&format!("// \"\n{}", deep(33)), false));
        assert!(is_shallow(&"<".repeat(40), false));
        assert!(!is_shallow(&"<".repeat(40), true));
        assert!(!is_shallow(&"1 + ".repeat(1001), false));
        assert!(is_shallow(&"1 + ".repeat(900).replace("+ 1 + 1 +", "+ 1;"), false));
        assert!(!is_shallow(&"if a then b else ".repeat(1001), false));
    }
}
