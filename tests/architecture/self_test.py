"""Tests of the architecture check itself, on small crates that it must find a fault in, or none."""

import tempfile
import unittest
from pathlib import Path

from check import check_dependencies
from modules import cycles, references_of


def groups(**files):
    """The cycles of a crate of these files; a double underscore in a name is a folder."""
    with tempfile.TemporaryDirectory() as folder:
        for name, text in files.items():
            file = Path(folder, name.replace("__", "/") + ".rs")
            file.parent.mkdir(exist_ok=True)
            file.write_text(text)
        found = cycles(references_of(Path(folder, "lib.rs")))
        return [sorted(str(file.relative_to(folder)) for file in group) for group in found]


class Cycles(unittest.TestCase):
    def test_files_that_use_each_other(self):
        for there in ["use crate::b::B;", "use super::b::B;", "use super::b; type C = b::B;", "type C = crate::b::B;"]:
            found = groups(lib="mod a; mod b;", a=f"{there} pub struct A(B);", b="use crate::a::A; pub struct B(A);")
            self.assertEqual(found, [["a.rs", "b.rs"]], there)

    def test_a_path_without_a_use_counts_where_it_stands(self):
        for use in [
            "fn f() { super::a::a(); }",
            "fn f() { use crate::a::a as other; other(); }",
            "fn f() -> Vec<crate::a::A> { vec![] }",
            '#[serde(with = "crate::a")] fn f() {} fn g() { crate::a::a() }',
            '#[serde(default = "crate::a::a")] struct S;',
            "fn f() { assert!(crate::a::a()); }",
        ]:
            found = groups(lib="mod a; mod b;", a="use crate::b; pub fn a() { b::f() } pub struct A;", b=use)
            self.assertEqual(found, [["a.rs", "b.rs"]], use)

    def test_a_re_export_of_a_parent_is_no_cycle(self):
        found = groups(
            lib="mod x;",
            x__mod="mod a; mod b; pub use a::A; pub use b::B;",
            x__a="pub struct A;",
            x__b="use super::A; use super::a; pub struct B(A, a::A);",
        )
        self.assertEqual(found, [])

    def test_a_parent_that_uses_its_re_export_is_one(self):
        files = {"lib": "mod x;", "x__a": "use super::Shared; pub struct A(Shared);"}
        of_parent = "mod a; pub use a::A; pub struct Shared; "
        self.assertEqual(groups(**files, x__mod=of_parent), [])
        self.assertEqual(groups(**files, x__mod=of_parent + "fn f(_: A) {}"), [["x/a.rs", "x/mod.rs"]])
        self.assertEqual(groups(**files, x__mod=of_parent + "fn f(_: a::A) {}"), [["x/a.rs", "x/mod.rs"]])

    def test_a_re_export_leads_to_where_the_item_is_defined(self):
        found = groups(
            lib="mod x; mod y; pub use x::*;",
            x__mod="mod deep; pub use deep::Deep as Renamed;",
            x__deep="use crate::y::Y; pub struct Deep(Y);",
            y="use crate::Renamed; pub struct Y(Renamed);",
        )
        self.assertEqual(found, [["x/deep.rs", "y.rs"]])

    def test_a_trait_is_used_without_its_name(self):
        files = {"lib": "mod a; mod b;", "b": "use crate::a::A; pub trait T { fn t(&self) {} } impl T for A {}"}
        self.assertEqual(groups(**files, a="use crate::b::T as _; pub struct A;"), [["a.rs", "b.rs"]])
        self.assertEqual(groups(**files, a="use crate::b::T; pub struct A;"), [["a.rs", "b.rs"]])

    def test_a_name_from_a_glob(self):
        files = {"lib": "mod a; mod b;", "b": "use crate::a::A; pub struct B(A);"}
        self.assertEqual(groups(**files, a="use crate::b::*; pub struct A; fn f(_: B) {}"), [["a.rs", "b.rs"]])

    def test_a_macro_by_its_name_alone(self):
        found = groups(
            lib="#[macro_use] mod a; mod b;",
            a="macro_rules! made { () => { $crate::b::B } }",
            b="pub struct B; made!();",
        )
        self.assertEqual(found, [["a.rs", "b.rs"]])

    def test_tests_comments_and_strings_do_not_count(self):
        for harmless in [
            "#[cfg(test)] use crate::b::B;",
            "#[cfg(test)] mod tests { use crate::b::B; fn f(_: B) {} }",
            "#[cfg(all(test, unix))] fn f(_: crate::b::B) {}",
            "struct S { #[cfg(test)] field: crate::b::B, other: u8 }",
            "impl A { #[cfg(test)] fn f(_: crate::b::B) {} fn g() {} }",
            "#[cfg(test)] #[path = \"tests.rs\"] mod tests;",
            "// crate::b::B;\n/* /* crate::b::B */ crate::b::B */ /// [`crate::b::B`]\n",
            "const S: &str = \"crate::b::B\"; const R: &str = r#\"\" crate::b::B\"#; const C: char = '\"';",
        ]:
            files = {"lib": "mod a; mod b;", "b": "use crate::a::A; pub struct B(A);"}
            self.assertEqual(groups(**files, a=f"{harmless} pub struct A;"), [], harmless)
            used = f"{harmless}\n pub struct A(crate::b::B);"
            self.assertEqual(groups(**files, a=used), [["a.rs", "b.rs"]], f"what follows {harmless}")

    def test_names_of_other_crates_do_not_count(self):
        found = groups(
            lib="mod a; mod b;",
            a="use std::fmt; use b::Other; use crate::b::B; pub struct A(B, fmt::Error);",
            b="pub struct B; fn f() { a::b(); std::a::A(); x.a(); }",
        )
        self.assertEqual(found, [])

    def test_inline_modules_belong_to_their_file(self):
        found = groups(
            lib="mod a; mod b;",
            a="pub mod inner { use super::Outer; pub struct I(Outer); } use inner::I; struct Outer; pub struct A(I);",
            b="use crate::a::inner::I; pub struct B(I);",
        )
        self.assertEqual(found, [])


def package(name, *dependencies):
    of = lambda name, kind=None, optional=False: {"name": name, "kind": kind, "optional": optional}
    return {"name": name, "dependencies": [of(*dependency) for dependency in dependencies]}


class Dependencies(unittest.TestCase):
    def workspace(self, **changed):
        packages = {
            "label-selector": package("label-selector", ("serde",)),
            "memory-apiserver": package("memory-apiserver", ("label-selector",)),
            "shared-cache": package("shared-cache", ("label-selector",), ("memory-apiserver", "dev")),
            "controller-manager": package("controller-manager", ("shared-cache",), ("memory-apiserver", "dev")),
            "sandbox-manager": package(
                "sandbox-manager",
                ("controller-manager",),
                ("shared-cache",),
                ("memory-apiserver", None, True),
                ("memory-apiserver", "dev"),
                ("sandbox-manager", "dev"),
            ),
        }
        packages.update({name.replace("_", "-"): changed for name, changed in changed.items()})
        return list(check_dependencies([package for package in packages.values() if package]))

    def test_the_directions_of_the_architecture_are_accepted(self):
        self.assertEqual(self.workspace(), [])

    def test_every_other_direction_is_told(self):
        for name, changed, fault in [
            ("label_selector", package("label-selector", ("shared-cache",)), "label-selector has a normal dependency on shared-cache, which is not below it"),
            ("label_selector", package("label-selector", ("shared-cache", "dev")), "label-selector has a dev dependency on shared-cache, which is not below it"),
            ("memory_apiserver", package("memory-apiserver", ("label-selector",), ("shared-cache", "dev")), "memory-apiserver has a dev dependency on shared-cache, which is not below it"),
            ("shared_cache", package("shared-cache", ("label-selector",), ("memory-apiserver",)), "shared-cache depends on memory-apiserver, which may only be a dev-dependency"),
            ("shared_cache", package("shared-cache", ("label-selector",), ("memory-apiserver", None, True)), "shared-cache depends on memory-apiserver, which may only be a dev-dependency"),
            ("shared_cache", package("shared-cache"), "shared-cache does not depend on label-selector"),
            ("controller_manager", package("controller-manager", ("shared-cache",), ("sandbox-manager", "build")), "controller-manager has a build dependency on sandbox-manager, which is not below it"),
            ("sandbox_manager", package("sandbox-manager", ("controller-manager",), ("memory-apiserver", "dev")), "sandbox-manager has no optional dependency on memory-apiserver"),
            ("shared_cache", None, "shared-cache is not in the workspace"),
        ]:
            self.assertIn(fault, self.workspace(**{name: changed}))

    def test_an_unknown_crate_is_told(self):
        faults = self.workspace(utils=package("utils"))
        self.assertEqual(faults, ["utils is in the workspace, but not in the list of check.py: add what it may depend on"])


if __name__ == "__main__":
    unittest.main()
