//! What is different between two texts, line by line.

/// Lines around a difference that are shown.
const CONTEXT: usize = 2;
/// Most lines of either text that are compared; what is behind them is said to differ.
const MAX_LINES: usize = 2_000;

/// `-` before a line of `before` that is gone, `+` before one of `after` that is new, two blanks before what is around them;
/// none when they are equal.
pub(crate) fn diff(before: &str, after: &str) -> Option<String> {
    if before == after {
        return None;
    }
    let (old, new): (Vec<_>, Vec<_>) = (before.lines().collect(), after.lines().collect());
    if old.len() > MAX_LINES || new.len() > MAX_LINES {
        return Some(format!("  … {} lines before, {} now: too many to compare", old.len(), new.len()));
    }
    let lines = script(&old, &new);
    let is_near = |at: usize| {
        let around = at.saturating_sub(CONTEXT)..(at + CONTEXT + 1).min(lines.len());
        lines[around].iter().any(|(sign, _)| *sign != ' ')
    };
    let mut out = Vec::new();
    let mut hidden = false;
    for (at, (sign, line)) in lines.iter().enumerate() {
        if is_near(at) {
            out.push(format!("{sign} {line}").trim_end().to_owned());
            hidden = false;
        } else if !hidden {
            out.push("  …".to_owned());
            hidden = true;
        }
    }
    Some(out.join("\n"))
}

/// The shortest way from one to the other, by the longest lines that both have in common.
fn script<'a>(old: &[&'a str], new: &[&'a str]) -> Vec<(char, &'a str)> {
    let width = new.len() + 1;
    // How much is common from here on.
    let mut common = vec![0_u16; (old.len() + 1) * width];
    for i in (0..old.len()).rev() {
        for j in (0..new.len()).rev() {
            common[i * width + j] = if old[i] == new[j] {
                common[(i + 1) * width + j + 1] + 1
            } else {
                common[(i + 1) * width + j].max(common[i * width + j + 1])
            };
        }
    }
    let (mut i, mut j) = (0, 0);
    let mut lines = Vec::with_capacity(old.len() + new.len());
    while i < old.len() || j < new.len() {
        if i < old.len() && j < new.len() && old[i] == new[j] {
            lines.push((' ', old[i]));
            (i, j) = (i + 1, j + 1);
        } else if i < old.len() && (j == new.len() || common[(i + 1) * width + j] >= common[i * width + j + 1]) {
            lines.push(('-', old[i]));
            i += 1;
        } else {
            lines.push(('+', new[j]));
            j += 1;
        }
    }
    lines
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_differs_is_shown_with_what_is_around_it() {
        assert_eq!(diff("a\nb\n", "a\nb\n"), None);
        let before: Vec<_> = ('a'..='z').map(String::from).collect();
        let mut after = before.clone();
        after[12] = "new".into();
        after.remove(20);
        let told = diff(&before.join("\n"), &after.join("\n")).expect("they differ");
        assert_eq!(told, "  …\n  k\n  l\n- m\n+ new\n  n\n  o\n  …\n  s\n  t\n- u\n  v\n  w\n  …");
        assert_eq!(diff("", "a").as_deref(), Some("+ a"));
        assert!(diff(&"x\n".repeat(3_000), "x").expect("they differ").contains("too many"));
    }

    /// Without the lines that are new it is the one text, without those that are gone the other.
    #[test]
    fn both_texts_can_be_read_from_it() {
        let mut state = 7_u64;
        for _ in 0..200 {
            let mut text = || -> Vec<&str> {
                (0..12)
                    .map(|_| {
                        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                        ["a", "b", "c"][usize::try_from(state >> 33).unwrap_or(0) % 3]
                    })
                    .collect()
            };
            let (old, new) = (text(), text());
            let lines = script(&old, &new);
            let side = |not: char| -> Vec<&str> {
                lines.iter().filter(|(sign, _)| *sign != not).map(|(_, line)| *line).collect()
            };
            assert_eq!((side('+'), side('-')), (old, new));
        }
    }
}
