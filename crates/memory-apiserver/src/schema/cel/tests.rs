//! Tests of limits, of values and of random texts. The records of the real server cover the rest.

use std::collections::HashMap;

use kube_cel::cel::Value;
use proptest::prelude::*;
use serde_json::json;

use super::check::check;
use super::evaluate::evaluate;
use super::outcome::{Failure, Outcome};
use super::parse::parse;
use super::rules::Rules;
use super::types::Type;
use super::values::value;
use super::{CALL_LIMIT, OLD_SELF, SELF};
use crate::schema::Schema;

/// The value of an expression, without the checker.
fn run(text: &str) -> Outcome {
    let this = value(&json!({ "a": 1, "s": "é", "l": [3, 1, 2], "m": { "k": "v" } }), &Type::Dyn);
    let expression = parse(text).unwrap();
    evaluate(&expression, &HashMap::new(), [(SELF, this)], CALL_LIMIT).0
}

#[track_caller]
fn assert_holds(text: &str) {
    assert_eq!(run(text), Ok(Value::Bool(true)), "{text}");
}

#[test]
fn expressions_of_the_largest_depth_are_evaluated_on_the_stack_of_a_thread() {
    for text in [
        format!("1{} == 2", " + 1".repeat(240)),
        format!("{}true", "true ? true : ".repeat(80)),
        format!("self.s{} == 'a'", ".trim()".repeat(240)),
        format!("true{}", " == true".repeat(240)),
        format!("{}true{}", "[1].all(x, ".repeat(25), ")".repeat(25)),
    ] {
        assert!(!matches!(run(&text), Err(Failure::TooLong)), "{text}");
    }
}

#[test]
fn steps_are_limited() {
    let many = "[1, 2, 3, 4, 5, 6, 7, 8, 9, 10]";
    let nested = format!("{}true{}", format!("{many}.all(x, ").repeat(7), ")".repeat(7));
    let absorbed = format!("true || {nested}");
    for text in
        [nested.as_str(), "lists.range(1000000000000).size() > 0", "'a'.replace('', lists.range(2000000))"]
    {
        assert_eq!(run(text), Err(Failure::TooLong), "{text}");
    }
    assert_holds(&absorbed);
    let not_absorbed = format!("{nested} || true");
    assert_eq!(run(&not_absorbed), Err(Failure::TooLong), "`||` does not hide that the limit is reached");
    let large =
        format!("lists.range(1000).map(x, '{}').join(',').replace('a', '{0}').size() > 0", "a".repeat(5000));
    assert_eq!(run(&large), Err(Failure::TooLong));
}

#[test]
fn functions_do_what_kubernetes_has_them_do() {
    for text in [
        "size(self.s) == 1 && 'a'.size() == 1",
        "type(self.a) == int && type(self.s) == string && type(self.l) == list && type(1.0) == double",
        "dyn(self.a) == 1.0 && dyn(self.a) == 1u",
        "bool('true') && !bool('False')",
        "self.?none.?deeper.orValue(5) == 5 && self.?a.hasValue() && !self.?none.hasValue()",
        "self.l[?7].orValue(0) == 0 && self.m[?'k'].value() == 'v'",
        "self.l.sum() == 6 && self.l.min() == 1 && self.l.sort() == [1, 2, 3]",
        "duration('+1h') == duration('60m') && -duration('1s') < duration('1µs')",
        "timestamp('2026-01-01T00:00:00Z') + duration('24h') == timestamp('2026-01-02T00:00:00Z')",
        "self.m.all(k, self.m[k] == 'v') && self.m.exists(k, k == 'k')",
        "[1, 2].exists(x, 1 / (x - 1) == 1) && ![1, 2].all(x, 1 / (x - 1) == 2)",
        "(1 / 0 == 1 || true) && !(1 / 0 == 1 && false)",
        "b'a' < b'b' && b'a' + b'b' == b'ab'",
        "'a.b'.matches(r'^a\\.b$') && !'ab'.matches('^a$')",
        "quantity('1Gi').isGreaterThan(quantity('1G')) && isQuantity('1500m') && !isQuantity('x')",
        "{'a': 1, 'b': 2} == {'b': 2, 'a': 1} && !([1, 2] == [2, 1])",
    ] {
        assert_holds(text);
    }
    for (text, why) in [
        ("self.none", "no such key: none"),
        ("self.l[3]", "index out of bounds: 3"),
        ("1 / 0", "division by zero"),
        ("1 % 0", "modulus by zero"),
        ("9223372036854775807 + 1", "integer overflow"),
        ("[9223372036854775807, 1].sum()", "integer overflow"),
        ("self.a + self.s", "no such overload"),
        ("self.a.b", "no such overload"),
        ("duration('1s of what')", "type conversion error from 'string' to 'google.protobuf.Duration'"),
        ("optional.none().value()", "optional.none() dereference"),
    ] {
        assert_eq!(run(text), Err(Failure::Error(why.to_owned())), "{text}");
    }
}

#[test]
fn what_is_not_supported_does_not_compile() {
    let of = Type::list(Type::Int);
    for text in
        ["self.sortBy(x, x) == self", "self.all(i, x, x > i)", "optional.of(1).optMap(x, x).hasValue()"]
    {
        let expression = parse(text).unwrap();
        assert!(check(&expression, text, &[(SELF, &of)]).is_err(), "{text}");
    }
}

/// Texts of what expressions are made of.
fn texts() -> impl Strategy<Value = String> {
    let token = prop::sample::select(vec![
        "self",
        "oldSelf",
        ".a",
        ".s",
        ".l",
        ".m",
        ".?a",
        "[0]",
        "['k']",
        "[?0]",
        "(",
        ")",
        "[",
        "]",
        "{",
        "}",
        ",",
        " + ",
        " - ",
        "-",
        " * ",
        " / ",
        " % ",
        " == ",
        " != ",
        " < ",
        " >= ",
        " && ",
        " || ",
        "!",
        " ? ",
        " : ",
        " in ",
        "1",
        "2.5",
        "3u",
        "'a'",
        "b'a'",
        "true",
        "null",
        ".all(x, x > 0)",
        ".map(y, y)",
        ".exists(x, x == 1)",
        ".filter(x, true)",
        "has(self.a)",
        ".size()",
        "size(self)",
        "type(self)",
        "int",
        ".sum()",
        ".join()",
        "duration('1s')",
        "timestamp('2026-01-01T00:00:00Z')",
        "string(self)",
        "quantity('1')",
        ".orValue(1)",
        "Foo{",
        ".matches('[')",
        "'",
        "//",
        "\n",
        "é",
    ]);
    prop::collection::vec(token, 1..12).prop_map(|tokens| tokens.concat())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    /// An expression that the checker accepts as true or false has such a value, or fails.
    #[test]
    fn any_text_is_refused_or_evaluated(text in texts()) {
        let schema = json!({ "type": "object", "properties": {
            "a": { "type": "integer" }, "s": { "type": "string" },
            "l": { "type": "array", "items": { "type": "integer" } },
            "m": { "type": "object", "additionalProperties": { "type": "string" } },
        } });
        let kind = crate::schema::CustomKind::new(&json!({ "type": "object", "properties": { "spec": schema } }), "", false);
        let kind = kind.unwrap();
        let spec: &Schema = &kind.schema.properties["spec"];
        let of = Type::of(spec).unwrap();
        let this = value(&json!({ "a": 1, "s": "x", "l": [1, 2], "m": { "k": "v" } }), &of);
        if let Ok(expression) = parse(&text)
            && let Ok(checked) = check(&expression, &text, &[(SELF, &of), (OLD_SELF, &of)])
        {
            let variables = [(SELF, this.clone()), (OLD_SELF, this)];
            let outcome = evaluate(&expression, &checked.comparisons, variables, CALL_LIMIT).0;
            if checked.of == Type::Bool {
                prop_assert!(matches!(outcome, Ok(Value::Bool(_)) | Err(_)), "{text}: {outcome:?}");
            }
        }
    }
}

#[test]
fn all_rules_of_an_object_share_one_budget() {
    let rule = json!([{ "rule": "self.all(x, self.all(y, x != y + 1000))" }]);
    let list = json!({ "type": "array", "items": { "type": "integer" }, "x-kubernetes-validations": rule });
    let lists = json!({ "type": "array", "items": list });
    let schema = json!({ "type": "object", "properties": { "spec": lists } });
    let props = serde_json::from_value(schema.clone()).unwrap();
    let kind = crate::schema::CustomKind::new(&schema, "", false).unwrap();
    let rules = Rules::new(&props, &kind.schema, "").unwrap();
    let list: Vec<_> = (0..300).collect();
    let errors = |times: usize| rules.validate(&json!({ "spec": vec![list.clone(); times] }), None);
    assert_eq!(errors(2), []);
    let errors = errors(30);
    assert_eq!(errors.len(), 1, "the walk ends with the budget");
    assert!(errors[0].to_string().contains("running out of cost budget"), "{errors:?}");
}
