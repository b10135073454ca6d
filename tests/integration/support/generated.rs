//! Files of the repository, or parts of them, that follow from something else: compared, or written anew when
//! `UPDATE_GENERATED` is set (`just generate`).

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, PoisonError};

/// Several tests may rewrite parts of one file.
static FILES: Mutex<()> = Mutex::new(());

/// A file must be this text.
#[track_caller]
pub(crate) fn assert_file(file: &str, expected: &str) {
    assert_part(file, |_| String::from(expected));
}

/// The part of a file between the markers of this name must be this text.
#[track_caller]
pub(crate) fn assert_section(file: &str, name: &str, expected: &str) {
    assert_section_from(file, name, |_| expected.to_owned());
}

/// The part of a file between the markers of this name must be what is made of it.
#[track_caller]
pub(crate) fn assert_section_from(file: &str, name: &str, generate: impl FnOnce(&str) -> String) {
    assert_part(file, |text| {
        let (begin, end) = (format!("<!-- {name}: begin -->\n"), format!("<!-- {name}: end -->"));
        let (before, rest) = text.split_once(&begin).unwrap_or_else(|| panic!("{file}: no {begin}"));
        let (is, after) = rest.split_once(&end).unwrap_or_else(|| panic!("{file}: no {end}"));
        format!("{before}{begin}{}{end}{after}", generate(is))
    });
}

/// A file must be what `generate` makes of it.
#[track_caller]
pub(crate) fn assert_part(file: &str, generate: impl FnOnce(&str) -> String) {
    let _files = FILES.lock().unwrap_or_else(PoisonError::into_inner);
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join(file);
    let update = std::env::var_os("UPDATE_GENERATED").is_some();
    let text = match fs::read_to_string(&path) {
        Err(error) if !update => panic!("{file}: {error}"),
        text => text.unwrap_or_default(),
    };
    let expected = generate(&text);
    if text == expected {
        return;
    }
    if update {
        fs::write(&path, expected).unwrap();
        return;
    }
    let line = text.lines().zip(expected.lines()).position(|(is, should_be)| is != should_be);
    let line = line.unwrap_or_else(|| text.lines().count().min(expected.lines().count()));
    let nth = |text: &str| text.lines().nth(line).unwrap_or("the end of the file").to_owned();
    panic!(
        "{file} is not what is generated (`just generate` writes it), first at line {}:\n  it is  {}\n  it should be  {}",
        line + 1,
        nth(&text),
        nth(&expected)
    );
}
