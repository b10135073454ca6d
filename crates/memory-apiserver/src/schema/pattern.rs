//! Patterns: from the dialect of Go, which CRDs are written in, to that of the library that matches them.
//!
//! Both are matched in linear time and have neither look-around nor back-references. What is written the same and
//! means something else is spelled out: classes are those of ASCII, `.` is all but a newline, a brace that is no
//! repetition is itself. What Go does not know is refused in its words.

use std::fmt::Write as _;
use std::iter::Peekable;
use std::str::CharIndices;

use jsonschema::PatternOptions;
use serde_json::json;

/// How often Go repeats at most.
const MAX_REPEAT: u32 = 1000;
/// Any character, also a newline.
const ANY: &str = r"[\x{0}-\x{10FFFF}]";

/// The pattern in the other dialect, or what Go says is wrong with it.
pub(super) fn translate(pattern: &str) -> Result<String, String> {
    let mut translation = Translation {
        pattern,
        rest: pattern.char_indices().peekable(),
        out: String::new(),
        groups: Vec::new(),
        dot_is_any: false,
        last: Last::Nothing,
    };
    translation.run()?;
    let out = translation.out;
    // What is left to be wrong, Go does not tell apart much further either.
    jsonschema::options()
        .with_pattern_options(PatternOptions::regex())
        .build(&json!({ "pattern": out }))
        .map_err(|_| format!("invalid character class range: `{pattern}`"))?;
    Ok(out)
}

/// What a repetition would repeat.
#[derive(Clone, Copy)]
enum Last {
    /// The beginning of the pattern, of a group or of an alternative.
    Nothing,
    Something,
    /// A repetition, which begins at this offset.
    Repetition(usize),
}

struct Translation<'a> {
    pattern: &'a str,
    rest: Peekable<CharIndices<'a>>,
    out: String,
    /// For each open group, whether a dot is any character outside of it.
    groups: Vec<bool>,
    dot_is_any: bool,
    last: Last,
}

impl<'a> Translation<'a> {
    fn run(&mut self) -> Result<(), String> {
        while let Some((at, char)) = self.rest.next() {
            match char {
                '\\' => self.escape(at)?,
                '[' => self.class(at)?,
                '(' => self.open(at)?,
                ')' => {
                    let outside = self.groups.pop();
                    self.dot_is_any = outside.ok_or_else(|| format!("unexpected ): `{}`", self.pattern))?;
                    self.push(")");
                }
                '.' => self.push(if self.dot_is_any { ANY } else { r"[^\n]" }),
                '*' | '+' | '?' => self.repeat(at, &self.pattern[at..=at])?,
                '{' => match repetition(&self.pattern[at..]) {
                    Some(times) => self.repeat(at, times)?,
                    None => self.literal(char),
                },
                '|' => {
                    self.out.push('|');
                    self.last = Last::Nothing;
                }
                '^' | '$' => self.push(&self.pattern[at..=at]),
                _ => self.literal(char),
            }
        }
        if self.groups.is_empty() { Ok(()) } else { Err(format!("missing closing ): `{}`", self.pattern)) }
    }

    fn push(&mut self, text: &str) {
        self.out.push_str(text);
        self.last = Last::Something;
    }

    fn literal(&mut self, char: char) {
        push_literal(&mut self.out, char);
        self.last = Last::Something;
    }

    /// The offset of what comes next.
    fn offset(&mut self) -> usize {
        self.rest.peek().map_or(self.pattern.len(), |(at, _)| *at)
    }

    /// Goes on after the next `length` bytes.
    fn skip_to(&mut self, offset: usize) {
        while self.rest.next_if(|(at, _)| *at < offset).is_some() {}
    }

    fn repeat(&mut self, at: usize, times: &'a str) -> Result<(), String> {
        self.skip_to(at + times.len());
        let lazy = self.rest.next_if(|(_, char)| *char == '?').is_some();
        let end = self.offset();
        match self.last {
            Last::Nothing => return Err(format!("missing argument to repetition operator: `{times}`")),
            Last::Repetition(begin) => {
                return Err(format!("invalid nested repetition operator: `{}`", &self.pattern[begin..end]));
            }
            Last::Something => {}
        }
        let counts = times.trim_matches(['{', '}']).split(',').filter_map(|count| count.parse().ok());
        let counts: Vec<u32> = counts.collect();
        if counts.iter().any(|count| *count > MAX_REPEAT) || !counts.is_sorted() {
            return Err(format!("invalid repeat count: `{times}`"));
        }
        self.out.push_str(times);
        self.out.push_str(if lazy { "?" } else { "" });
        self.last = Last::Repetition(at);
        Ok(())
    }

    /// A group, or flags for the rest of the one that is open.
    fn open(&mut self, at: usize) -> Result<(), String> {
        let text = &self.pattern[at..];
        self.last = Last::Nothing;
        if !text.starts_with("(?") {
            self.groups.push(self.dot_is_any);
            self.out.push('(');
            return Ok(());
        }
        if text.starts_with("(?P<") || text.starts_with("(?<") {
            let Some(end) = text.find('>').filter(|end| is_name(&text[..*end])) else {
                return Err(format!("invalid named capture: `{text}`"));
            };
            self.skip_to(at + end + 1);
            self.groups.push(self.dot_is_any);
            let _infallible = write!(self.out, "(?P{}", &text[text.find('<').unwrap_or(0)..=end]);
            return Ok(());
        }
        let is_flag = |char: char| matches!(char, 'i' | 'm' | 's' | 'U' | '-');
        let length = text[2..].find(|char| !is_flag(char)).map_or(text.len(), |length| length + 2);
        let (flags, end) = (&text[2..length], text[length..].chars().next());
        let is_group = match end {
            Some(':') => true,
            Some(')') if !flags.is_empty() => false,
            _ => {
                let read = &text[..length + end.map_or(0, char::len_utf8)];
                return Err(format!("invalid or unsupported Perl syntax: `{read}`"));
            }
        };
        if is_group {
            self.groups.push(self.dot_is_any);
        }
        let (on, off) = flags.split_once('-').unwrap_or((flags, ""));
        self.dot_is_any = (self.dot_is_any || on.contains('s')) && !off.contains('s');
        self.out.push_str(&text[..=length]);
        self.skip_to(at + length + 1);
        Ok(())
    }

    fn escape(&mut self, at: usize) -> Result<(), String> {
        let Some((_, char)) = self.rest.next() else {
            return Err("trailing backslash at end of expression: ``".to_owned());
        };
        match char {
            'Q' => {
                let text = &self.pattern[at + 2..];
                let end = text.find(r"\E");
                text[..end.unwrap_or(text.len())].chars().for_each(|char| self.literal(char));
                self.skip_to(end.map_or(self.pattern.len(), |end| at + 2 + end + 2));
            }
            'd' | 'w' | 's' => self.push(&format!("[{}]", perl_class(char))),
            'D' | 'W' | 'S' => self.push(&format!("[^{}]", perl_class(char.to_ascii_lowercase()))),
            'b' => self.push(r"(?-u:\b)"),
            'B' => self.push(r"(?-u:\B)"),
            'A' => self.push(r"\A"),
            'z' => self.push(r"\z"),
            'C' => self.push(ANY),
            'p' | 'P' => {
                let class = self.unicode_class(at);
                self.push(class);
            }
            _ => {
                let char = self.escaped_char(at, char)?;
                self.literal(char);
            }
        }
        Ok(())
    }

    /// `\pL` or `\p{Greek}`, which stands at `at`.
    fn unicode_class(&mut self, at: usize) -> &'a str {
        let name = &self.pattern[at + 2..];
        let length = if name.starts_with('{') { name.find('}') } else { None };
        let length = length.or_else(|| name.chars().next().map(|char| char.len_utf8() - 1));
        let end = length.map_or(self.pattern.len(), |length| at + 2 + length + 1);
        self.skip_to(end);
        &self.pattern[at..end]
    }

    /// The one character that an escape at `at` stands for; `char` comes after the backslash.
    fn escaped_char(&mut self, at: usize, char: char) -> Result<char, String> {
        let text = &self.pattern[at + 1..];
        let (code, length) = match char {
            'a' => return Ok('\u{7}'),
            'f' => return Ok('\u{c}'),
            'n' => return Ok('\n'),
            'r' => return Ok('\r'),
            't' => return Ok('\t'),
            'v' => return Ok('\u{b}'),
            'x' if text.starts_with("x{") => {
                let end = text.find('}').unwrap_or(text.len());
                (u32::from_str_radix(&text[2..end], 16), end + 1)
            }
            'x' => (u32::from_str_radix(text.get(1..3).unwrap_or_default(), 16), 3),
            '0'..='7' => {
                let digits = text.bytes().take(3).take_while(|digit| matches!(digit, b'0'..=b'7')).count();
                if digits == 1 && char != '0' {
                    return Err(format!("invalid escape sequence: `\\{char}`"));
                }
                (u32::from_str_radix(&text[..digits], 8), digits)
            }
            _ if char.is_ascii_punctuation() || char == ' ' => return Ok(char),
            _ => return Err(format!("invalid escape sequence: `\\{char}`")),
        };
        self.skip_to(at + 1 + length);
        code.ok()
            .and_then(char::from_u32)
            .ok_or_else(|| format!("invalid escape sequence: `\\{}`", text.get(..length).unwrap_or(text)))
    }

    /// `[...]`, of which the bracket at `begin` was read.
    fn class(&mut self, begin: usize) -> Result<(), String> {
        let unclosed = || format!("missing closing ]: `{}`", &self.pattern[begin..]);
        self.out.push('[');
        if self.rest.next_if(|(_, char)| *char == '^').is_some() {
            self.out.push('^');
        }
        let first = self.offset();
        loop {
            let (at, char) = self.rest.next().ok_or_else(unclosed)?;
            match char {
                ']' if at > first => break,
                '[' if self.pattern[at..].starts_with("[:") => self.posix_class(at)?,
                '\\' if self.rest.peek().is_some_and(|(_, next)| "dwsDWSpP".contains(*next)) => {
                    let (_, kind) = self.rest.next().ok_or_else(unclosed)?;
                    let class = match kind {
                        'd' | 'w' | 's' => perl_class(kind),
                        'D' | 'W' | 'S' => perl_class_complement(kind),
                        _ => self.unicode_class(at),
                    };
                    self.out.push_str(class);
                }
                _ => self.range(at, char).map_err(|why| why.unwrap_or_else(unclosed))?,
            }
        }
        self.push("]");
        Ok(())
    }

    /// A character in a class, or a range of them. The error is `None` where the pattern ends.
    fn range(&mut self, at: usize, char: char) -> Result<(), Option<String>> {
        let low = self.class_char(at, char)?;
        push_literal(&mut self.out, low);
        let rest = &self.pattern[self.offset()..];
        if !rest.starts_with('-') || rest.starts_with("-]") {
            return Ok(());
        }
        self.rest.next();
        let (high_at, high) = self.rest.next().ok_or(None)?;
        let high = self.class_char(high_at, high)?;
        if high < low {
            let end = self.offset();
            return Err(Some(format!("invalid character class range: `{}`", &self.pattern[at..end])));
        }
        self.out.push('-');
        push_literal(&mut self.out, high);
        Ok(())
    }

    fn class_char(&mut self, at: usize, char: char) -> Result<char, Option<String>> {
        if char != '\\' {
            return Ok(char);
        }
        let (_, escaped) = self.rest.next().ok_or(None)?;
        self.escaped_char(at, escaped).map_err(Some)
    }

    /// `[:alpha:]` or `[:^alpha:]` in a class.
    fn posix_class(&mut self, at: usize) -> Result<(), String> {
        let text = &self.pattern[at..];
        let end = text.find(":]").map_or(text.len(), |end| end + 2);
        let name = text[..end].trim_matches(['[', ':', ']']);
        let (name, negated) = name.strip_prefix('^').map_or((name, false), |name| (name, true));
        let is_in: fn(&char) -> bool = match name {
            "alnum" => char::is_ascii_alphanumeric,
            "alpha" => char::is_ascii_alphabetic,
            "ascii" => char::is_ascii,
            "blank" => |char| matches!(char, ' ' | '\t'),
            "cntrl" => char::is_ascii_control,
            "digit" => char::is_ascii_digit,
            "graph" => char::is_ascii_graphic,
            "lower" => char::is_ascii_lowercase,
            "print" => |char| matches!(char, ' '..='~'),
            "punct" => char::is_ascii_punctuation,
            "space" => |char| matches!(char, '\t'..='\r' | ' '),
            "upper" => char::is_ascii_uppercase,
            "word" => |char| char.is_ascii_alphanumeric() || *char == '_',
            "xdigit" => char::is_ascii_hexdigit,
            _ => return Err(format!("invalid character class range: `{}`", &text[..end])),
        };
        for char in ('\0'..='\u{7f}').filter(|char| is_in(char) != negated) {
            push_literal(&mut self.out, char);
        }
        if negated {
            self.out.push_str(r"\x{80}-\x{10FFFF}");
        }
        self.skip_to(at + end);
        Ok(())
    }
}

/// A character that stands for itself, inside and outside of classes.
fn push_literal(out: &mut String, char: char) {
    if char.is_ascii_alphanumeric() || !char.is_ascii() {
        out.push(char);
    } else {
        let _infallible = write!(out, "\\x{{{:x}}}", u32::from(char));
    }
}

fn perl_class(kind: char) -> &'static str {
    match kind {
        'd' => "0-9",
        'w' => "0-9A-Z\\x{5f}a-z",
        _ => "\\x{9}\\x{a}\\x{c}\\x{d}\\x{20}",
    }
}

/// What is not in a class, as ranges: classes in classes mean something else here and there.
fn perl_class_complement(kind: char) -> &'static str {
    match kind {
        'D' => r"\x{0}-\x{2f}\x{3a}-\x{10FFFF}",
        'W' => r"\x{0}-\x{2f}\x{3a}-\x{40}\x{5b}-\x{5e}\x{60}\x{7b}-\x{10FFFF}",
        _ => r"\x{0}-\x{8}\x{b}\x{e}-\x{1f}\x{21}-\x{10FFFF}",
    }
}

/// `{2}`, `{2,}` or `{2,3}` at the beginning of a text.
fn repetition(text: &str) -> Option<&str> {
    let end = text.find('}')?;
    let (low, high) = text[1..end].split_once(',').unwrap_or((&text[1..end], ""));
    let is_number = |text: &str| text.bytes().all(|digit| digit.is_ascii_digit());
    (!low.is_empty() && is_number(low) && is_number(high)).then(|| &text[..=end])
}

/// Whether `(?P<name` has a name.
fn is_name(group: &str) -> bool {
    let name = group.split_once('<').map_or("", |(_, name)| name);
    !name.is_empty() && name.chars().all(|char| char == '_' || char.is_alphanumeric())
}
