//! Parses expressions.

use std::thread;

use kube_cel::cel::common::ast::{EntryExpr, Expr, operators};
use kube_cel::cel::parser::{Expression, Parser};

use super::source::{INDEX, Source};

/// The parser takes up to 100 KiB of stack for each level of parentheses in a debug build.
const STACK: usize = 64 << 20;
/// The largest text that is parsed, in bytes.
const MAX_LENGTH: usize = 50_000;
/// The largest depth of parentheses, lists and maps that is parsed.
const MAX_NESTING: usize = 200;
/// The largest depth of a tree. It bounds the stack that an evaluation takes.
pub(super) const MAX_DEPTH: usize = 250;

/// Reads an expression. The error says what is wrong, in the form of kube-apiserver.
pub(super) fn parse(text: &str) -> Result<Expression, String> {
    if text.len() > MAX_LENGTH {
        return Err(format!("ERROR: <input>:-1:0: expression of more than {MAX_LENGTH} bytes"));
    }
    if nesting(text) > MAX_NESTING {
        return Err("ERROR: <input>:-1:0: expression recursion limit exceeded".to_owned());
    }
    // A thread with a large stack, because the parser recurses deeply. A panic of the parser becomes an error.
    let parsed = thread::scope(|scope| {
        let parser = thread::Builder::new().name("cel".to_owned()).stack_size(STACK);
        parser.spawn_scoped(scope, || read(text)).map(thread::ScopedJoinHandle::join)
    });
    match parsed {
        Ok(Ok(result)) => result,
        Ok(Err(_)) => Err("ERROR: <input>:-1:0: the expression can't be parsed".to_owned()),
        Err(error) => Err(format!("ERROR: <input>:-1:0: no thread for the parser: {error}")),
    }
}

fn read(text: &str) -> Result<Expression, String> {
    let parsed = Parser::new().enable_optional_syntax(true).parse(text);
    let expression = parsed.map_err(|errors| {
        let source = Source::new(text);
        let errors = errors.errors.iter().map(|error| {
            let (line, column) = error.pos;
            source.error(usize::try_from(line).unwrap_or(1), usize::try_from(column).unwrap_or(1), &error.msg)
        });
        errors.collect::<Vec<_>>().join("\n")
    })?;
    if depth(&expression) > MAX_DEPTH {
        return Err("ERROR: <input>:-1:0: expression recursion limit exceeded".to_owned());
    }
    Ok(expression)
}

/// The largest number of brackets that are open at once. Brackets in texts are counted, too.
fn nesting(text: &str) -> usize {
    let (mut open, mut largest) = (0_usize, 0);
    for char in text.bytes() {
        match char {
            b'(' | b'[' | b'{' => open += 1,
            b')' | b']' | b'}' => open = open.saturating_sub(1),
            _ => {}
        }
        largest = largest.max(open);
    }
    largest
}

fn depth(expression: &Expression) -> usize {
    1 + below(expression).map(depth).max().unwrap_or_default()
}

/// Returns the direct parts of an expression.
pub(super) fn below(expression: &Expression) -> Box<dyn Iterator<Item = &Expression> + '_> {
    match &expression.expr {
        Expr::Unspecified | Expr::Ident(_) | Expr::Literal(_) => Box::new(std::iter::empty()),
        Expr::Call(call) => Box::new(call.target.as_deref().into_iter().chain(&call.args)),
        Expr::Comprehension(all) => Box::new(
            [&all.iter_range, &all.accu_init, &all.loop_cond, &all.loop_step, &all.result].into_iter(),
        ),
        Expr::List(list) => Box::new(list.elements.iter()),
        Expr::Select(select) => Box::new(std::iter::once(select.operand.as_ref())),
        Expr::Map(map) => Box::new(map.entries.iter().flat_map(|entry| of_entry(&entry.expr))),
        Expr::Struct(fields) => Box::new(fields.entries.iter().flat_map(|entry| of_entry(&entry.expr))),
    }
}

fn of_entry(entry: &EntryExpr) -> impl Iterator<Item = &Expression> {
    let (key, value) = match entry {
        EntryExpr::StructField(field) => (None, &field.value),
        EntryExpr::MapEntry(entry) => (Some(&entry.key), &entry.value),
    };
    key.into_iter().chain([value])
}

/// Returns true if a macro such as `all` inserted an operator: then one of its operands is the result of the loop.
pub(super) fn is_of_macro(arguments: &[Expression]) -> bool {
    arguments.iter().any(|argument| matches!(&argument.expr, Expr::Ident(name) if name == "@result"))
}

/// The token of an operator.
pub(super) fn symbol(function: &str) -> Option<&'static str> {
    Some(match function {
        operators::LOGICAL_AND => "&&",
        operators::LOGICAL_OR => "||",
        operators::EQUALS => "==",
        operators::NOT_EQUALS => "!=",
        operators::LESS => "<",
        operators::LESS_EQUALS => "<=",
        operators::GREATER => ">",
        operators::GREATER_EQUALS => ">=",
        operators::ADD => "+",
        operators::MULTIPLY => "*",
        operators::DIVIDE => "/",
        operators::MODULO => "%",
        operators::IN => "in",
        operators::SUBSTRACT => "-",
        operators::INDEX | operators::OPT_INDEX => INDEX,
        operators::CONDITIONAL => "?",
        operators::LOGICAL_NOT => "!",
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_is_parsed_overflows_a_stack() {
        for (begin, middle, end, close) in [
            ("", "(", "1", ")"),
            ("", "[", "1", "]"),
            ("", "{1: ", "1", "}"),
            ("", "[1].all(x, ", "true", ")"),
            ("", "size(", "''", ")"),
            ("", "!(", "true", ")"),
            ("", "!", "true", ""),
            ("", "-", "a", ""),
            ("1", " + 1", "", ""),
            ("true", " && true", "", ""),
            ("self", ".a", "", ""),
            ("self", "[0]", "", ""),
            ("", "true ? true : ", "true", ""),
            ("'a'", ".trim()", "", ""),
            ("true", " == true", "", ""),
        ] {
            for times in [MAX_DEPTH / 2, MAX_NESTING, 2000, MAX_LENGTH / middle.len()] {
                let text = format!("{begin}{}{end}{}", middle.repeat(times), close.repeat(times));
                if let Ok(expression) = parse(&text) {
                    assert!(depth(&expression) <= MAX_DEPTH, "{middle} {times}");
                }
            }
        }
    }
}
