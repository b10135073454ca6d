//! [`Query`]: the decoded query of a request.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use super::errors::ApiError;

/// More parameters than any client sends.
const MOST_PARAMETERS: usize = 100;

/// The parameters of a query, decoded once. The first of several with one name counts; unknown ones are ignored.
#[derive(Debug, Default)]
pub(super) struct Query(Vec<(String, String)>);

impl Query {
    /// # Errors
    ///
    /// 400 if a parameter is not UTF-8, or there are too many of them.
    pub(super) fn parse(query: &str) -> Result<Self, ApiError> {
        let mut parameters = Vec::new();
        for part in query.split('&').filter(|part| !part.is_empty()) {
            if parameters.len() == MOST_PARAMETERS {
                return Err(ApiError::bad_request("too many query parameters"));
            }
            let (name, value) = part.split_once('=').unwrap_or((part, ""));
            parameters.push((unescape(name)?, unescape(value)?));
        }
        Ok(Self(parameters))
    }

    /// Returns a parameter; `None` if it is absent or empty.
    pub(super) fn get(&self, name: &str) -> Option<&str> {
        let value = self.0.iter().find(|(known, _)| known == name).map(|(_, value)| value.as_str());
        value.filter(|value| !value.is_empty())
    }
}

/// Decodes one round of escapes: `+` is a space. An escape that is none stays as it is.
///
/// # Errors
///
/// 400 if the result is not UTF-8.
pub(super) fn unescape(text: &str) -> Result<String, ApiError> {
    let spaced: Cow<'_, str> = if text.contains('+') { text.replace('+', " ").into() } else { text.into() };
    match percent_decode_str(&spaced).decode_utf8() {
        Ok(text) => Ok(text.into_owned()),
        Err(_) => Err(ApiError::bad_request("the query is not UTF-8 text")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_decoded_once_and_the_first_counts() {
        let query = Query::parse("a=b%2Bc+d&a=2&state=&&flag&b=%zz").unwrap();
        assert_eq!(query.get("a"), Some("b+c d"));
        assert_eq!((query.get("state"), query.get("flag"), query.get("none")), (None, None, None));
        assert_eq!(query.get("b"), Some("%zz"));
    }

    #[test]
    fn what_is_no_text_or_too_long_is_refused() {
        assert_eq!(Query::parse("a=%ff").unwrap_err().status().as_u16(), 400);
        assert_eq!(Query::parse(&"a=1&".repeat(101)).unwrap_err().status().as_u16(), 400);
    }
}
