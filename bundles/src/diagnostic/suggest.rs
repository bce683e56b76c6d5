//! "Did you mean …": the nearest of the words that would have been right.

/// The longest word worth comparing, in characters; the cost is its square.
const WORD_CHARS_MAX: usize = 64;

/// The candidate nearest to the word, when it is near enough to be what was meant.
pub fn suggest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let folded = fold(word);
    if folded.len() > WORD_CHARS_MAX {
        return None;
    }
    let near_max = (folded.len() / 3).max(1);
    candidates
        .into_iter()
        .map(|candidate| (distance(&folded, &fold(candidate)), candidate))
        .filter(|(distance, candidate)| *distance <= near_max && *distance < candidate.chars().count())
        .min_by_key(|(distance, _)| *distance)
        .map(|(_, candidate)| candidate.to_owned())
}

/// Case and the usual word separators do not count: `utmSource` is near `utm_source`.
fn fold(word: &str) -> Vec<char> {
    word.chars()
        .take(WORD_CHARS_MAX + 1)
        .filter(|c| !matches!(c, '_' | '-'))
        .flat_map(char::to_lowercase)
        .collect()
}

/// Optimal string alignment: insertions, deletions, substitutions and swaps of neighbours.
fn distance(a: &[char], b: &[char]) -> usize {
    let mut before: Vec<usize> = Vec::new();
    let mut previous: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut current = vec![i];
        for j in 1..=b.len() {
            let replaced = previous[j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut best = replaced.min(previous[j] + 1).min(current[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                best = best.min(before[j - 2] + 1);
            }
            current.push(best);
        }
        before = std::mem::replace(&mut previous, current);
    }
    previous[b.len()]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_word_is_suggested_and_a_far_one_is_not() {
        let words = ["callerphone", "sessionId", "utm_source", "utm_medium"];
        assert_eq!(suggest("calerphone", words).as_deref(), Some("callerphone"));
        assert_eq!(suggest("SessionID", words).as_deref(), Some("sessionId"));
        assert_eq!(suggest("utmSoruce", words).as_deref(), Some("utm_source"));
        assert_eq!(suggest("duration", words), None);
        assert_eq!(suggest("", words), None);
    }

    #[test]
    fn a_short_word_is_not_turned_into_an_unrelated_one() {
        assert_eq!(suggest("x", ["id"]), None);
        assert_eq!(suggest("it", ["id"]).as_deref(), Some("id"));
    }

    #[test]
    fn a_hostile_word_costs_nothing() {
        assert_eq!(suggest(&"a".repeat(1 << 20), ["a"]), None);
    }
}
