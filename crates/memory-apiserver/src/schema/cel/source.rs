//! [`Source`]: finds the place of an error in the text of an expression.
//!
//! The parser does not return the places of the parts of an expression. The checker visits them in the order of the
//! text. Therefore the n-th visit of a name is at the n-th place of that name in the text.

use std::collections::HashMap;

/// The token of an index, as opposed to that of a list.
pub(super) const INDEX: &str = "a[";

/// The text of an expression.
pub(super) struct Source<'a> {
    text: &'a str,
    /// The places of each token that were not visited, the last one first, as numbers of characters.
    places: HashMap<String, Vec<usize>>,
}

impl<'a> Source<'a> {
    pub(super) fn new(text: &'a str) -> Self {
        let mut places: HashMap<String, Vec<usize>> = HashMap::new();
        for (place, token) in tokens(text).into_iter().rev() {
            places.entry(token).or_default().push(place);
        }
        Self { text, places }
    }

    /// The next place of a token: `name` of a variable, `.name` of a field, `name(` of a function, [`INDEX`], or an
    /// operator.
    pub(super) fn next(&mut self, token: &str) -> Option<usize> {
        self.places.get_mut(token)?.pop()
    }

    /// An error at a place, in the form of kube-apiserver. Without a place, it is at the beginning.
    pub(super) fn error_at(&self, place: Option<usize>, message: &str) -> String {
        let before: String = self.text.chars().take(place.unwrap_or_default()).collect();
        let line = before.matches('\n').count() + 1;
        let column = before.rsplit('\n').next().unwrap_or_default().chars().count() + 1;
        self.error(line, column, message)
    }

    /// An error at a line and column, both counted from 1.
    pub(super) fn error(&self, line: usize, column: usize, message: &str) -> String {
        let snippet = self.text.split('\n').nth(line.saturating_sub(1)).unwrap_or_default();
        let dots = ".".repeat(column.saturating_sub(1));
        format!("ERROR: <input>:{line}:{column}: {message}\n | {snippet}\n | {dots}^")
    }
}

/// Returns each token with its place. Literals give no tokens.
fn tokens(text: &str) -> Vec<(usize, String)> {
    let chars: Vec<char> = text.chars().collect();
    let (mut tokens, mut at) = (Vec::new(), 0);
    while let Some(&char) = chars.get(at) {
        let end = match char {
            '\'' | '"' => end_of_literal(&chars, at),
            '/' if chars.get(at + 1) == Some(&'/') => {
                chars[at..].iter().position(|char| *char == '\n').map_or(chars.len(), |length| at + length)
            }
            _ if char.is_ascii_digit() => {
                end_of(&chars, at, |char| char.is_ascii_alphanumeric() || char == '.')
            }
            _ if is_of_name(char) => {
                let end = end_of(&chars, at, is_of_name);
                let is_prefix = end - at <= 2 && matches!(chars.get(end), Some('\'' | '"'));
                if !is_prefix {
                    tokens.push(name(&chars, at, end));
                }
                end
            }
            _ => {
                let pair: String = chars[at..].iter().take(2).collect();
                let is_pair = ["&&", "||", "==", "!=", "<=", ">="].contains(&pair.as_str());
                let is_index = char == '[' && follows_a_value(&chars[..at]);
                let token = if is_pair { pair } else { char.to_string() };
                let end = at + token.chars().count();
                let token = if is_index { INDEX.to_owned() } else { token };
                tokens.push((at, token));
                end
            }
        };
        at = end;
    }
    tokens
}

/// Returns true if these characters end with a value. Then a bracket after them begins an index.
fn follows_a_value(chars: &[char]) -> bool {
    let last = chars.iter().rfind(|char| !char.is_whitespace());
    last.is_some_and(|char| is_of_name(*char) || ")]}'\"".contains(*char))
}

/// Returns the token of a name between two places.
fn name(chars: &[char], begin: usize, end: usize) -> (usize, String) {
    let name: String = chars[begin..end].iter().collect();
    let before = chars[..begin].iter().rposition(|char| !char.is_whitespace());
    let after = (end..chars.len()).find(|at| !chars[*at].is_whitespace());
    // `.?name` begins with the point, too.
    let before = before.map(|at| if chars[..=at].ends_with(&['.', '?']) { at - 1 } else { at });
    let is_field = before.is_some_and(|at| chars[at] == '.');
    match (before, after) {
        (_, Some(after)) if chars[after] == '(' => (after, format!("{name}(")),
        (Some(before), _) if is_field => (before, format!(".{name}")),
        _ => (begin, name),
    }
}

fn is_of_name(char: char) -> bool {
    char == '_' || char.is_ascii_alphanumeric()
}

fn end_of(chars: &[char], begin: usize, is_part: impl Fn(char) -> bool) -> usize {
    (begin..chars.len()).find(|at| !is_part(chars[*at])).unwrap_or(chars.len())
}

/// The end of a text or of bytes. Three quotation marks may hold line breaks.
fn end_of_literal(chars: &[char], begin: usize) -> usize {
    let mark = chars[begin];
    let is_raw = begin > 0 && matches!(chars[begin - 1], 'r' | 'R');
    let marks = if chars[begin..].starts_with(&[mark; 3]) { 3 } else { 1 };
    let mut at = begin + marks;
    while at < chars.len() {
        if chars[at] == '\\' && !is_raw {
            at += 2;
        } else if chars[at..].starts_with(&vec![mark; marks]) {
            return at + marks;
        } else {
            at += 1;
        }
    }
    chars.len()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_found_in_the_order_of_the_text() {
        let mut source = Source::new("self.a == 'self.a' && size(self.b)\n  || self.a.size() > 1 // self.a");
        assert_eq!(
            (source.next("self"), source.next("self"), source.next("self")),
            (Some(0), Some(27), Some(40))
        );
        assert_eq!((source.next(".a"), source.next(".a"), source.next(".a")), (Some(4), Some(44), None));
        assert_eq!(
            (source.next("size("), source.next("size("), source.next("&&")),
            (Some(26), Some(51), Some(19))
        );
        let error = source.error_at(Some(44), "wrong");
        assert_eq!(error, "ERROR: <input>:2:10: wrong\n |   || self.a.size() > 1 // self.a\n | .........^");
    }

    #[test]
    fn any_text_has_tokens() {
        for text in ["'", "\"\"\"", "r'\\'", "'\\", "a.?b", "é == ü", ""] {
            tokens(text);
        }
        assert_eq!(
            tokens("a.?b"),
            [(0, "a".to_owned()), (1, ".".to_owned()), (2, "?".to_owned()), (1, ".b".to_owned())]
        );
    }
}
