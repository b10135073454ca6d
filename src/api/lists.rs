//! Decodes lists into memory of exactly their size.
//!
//! A list that grows while it is decoded reserves memory for four or more elements. Most lists of a sandbox
//! have one or two elements, and a cached object is kept for hours. The spare memory is therefore freed at
//! once.

use serde::{Deserialize, Deserializer};

/// Decodes an optional list and frees its spare capacity.
///
/// `null` decodes as `None`. An empty list stays an empty list.
///
/// # Errors
/// Returns the error of the first element that cannot be decoded.
pub(crate) fn exact<'de, D, T>(deserializer: D) -> Result<Option<Vec<T>>, D::Error>
where
    D: Deserializer<'de>,
    T: Deserialize<'de>,
{
    Ok(fitted(Option::deserialize(deserializer)?))
}

/// Returns the same list without spare capacity.
pub(crate) fn fitted<T>(list: Option<Vec<T>>) -> Option<Vec<T>> {
    list.map(|mut items| {
        items.shrink_to_fit();
        items
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn a_short_list_takes_no_spare_room() {
        let list: Option<Vec<String>> =
            super::exact(&mut serde_json::Deserializer::from_str(r#"["a"]"#)).unwrap();
        assert_eq!(list.map(|items| items.capacity()), Some(1));
    }
}
