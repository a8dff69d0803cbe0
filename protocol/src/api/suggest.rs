//! «Did you mean»: the nearest of a few known words.

/// The known word nearest to `word`, if it is near enough to be meant.
pub(super) fn nearest<'a>(word: &str, known: &[&'a str]) -> Option<&'a str> {
    // Long words are no slips of a known one, and the distance costs length times length.
    if word.len() > 64 {
        return None;
    }
    let folded = word.to_lowercase();
    known
        .iter()
        .map(|k| (distance(&folded, &k.to_lowercase()), *k))
        .filter(|(d, k)| *d <= (k.len().max(word.len()) / 3).max(1))
        .min_by_key(|(d, _)| *d)
        .map(|(_, k)| k)
}

/// Optimal string alignment distance: insertions, deletions, replacements and swaps of neighbours.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let width = b.len() + 1;
    let mut rows: Vec<Vec<usize>> = vec![vec![0; width]; a.len() + 1];
    rows[0] = (0..width).collect();
    for i in 1..=a.len() {
        rows[i][0] = i;
        for j in 1..width {
            let change = usize::from(a[i - 1] != b[j - 1]);
            let mut best = (rows[i - 1][j] + 1).min(rows[i][j - 1] + 1).min(rows[i - 1][j - 1] + change);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(rows[i - 2][j - 2] + 1);
            }
            rows[i][j] = best;
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn suggestion_for_a_slip_is_the_word_meant_and_for_another_word_is_none() {
        let known = ["appName", "qosClass", "securityClass"];
        assert_eq!(nearest("appname", &known), Some("appName"));
        assert_eq!(nearest("qosCalss", &known), Some("qosClass"));
        assert_eq!(nearest("volumes", &known), None);
        assert_eq!(nearest("", &known), None);
        assert_eq!(nearest(&"a".repeat(10_000), &known), None);
    }
}
