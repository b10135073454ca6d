//! [`FUNCTIONS`]: the functions that rules can call, with their operands and results.

use super::types::Type;

/// How a function is called.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Form {
    /// `name(operand, arguments...)`
    Global,
    /// `operand.name(arguments...)`
    Method,
    /// In both ways.
    Both,
}

/// The type of a result.
#[derive(Debug)]
pub(super) enum Returns {
    Is(Type),
    /// The type of the operand.
    Same,
    /// The type of the operand's items, or of the value in an optional.
    Inner,
    /// An optional of the operand's items.
    OptionalInner,
    /// An optional of the operand.
    OptionalSame,
    Strings,
    Integers,
    /// An optional of a list of texts.
    OptionalStrings,
}

/// A function. A name can have several functions, each for other operands.
#[derive(Debug)]
pub(super) struct Function {
    /// Functions of a namespace have it in front: `math.abs`.
    pub(super) name: &'static str,
    form: Form,
    /// Letters of the types that the operand can have, see [`letter`]; empty if there is no operand.
    operands: &'static str,
    /// Letters of the types that the items of the operand can have, if it is a list.
    items: &'static str,
    /// The least and the largest number of arguments beside the operand.
    arguments: (usize, usize),
    pub(super) returns: Returns,
}

/// Returns the functions of a name.
pub(super) fn named(name: &str) -> impl Iterator<Item = &'static Function> + '_ {
    FUNCTIONS.iter().filter(move |function| function.name == name)
}

impl Function {
    /// Returns true if the function can be called in this way. `operand` is the target of a method, otherwise the first
    /// argument.
    pub(super) fn accepts(&self, is_method: bool, operand: Option<&Type>, arguments: usize) -> bool {
        let form = if is_method { Form::Method } else { Form::Global };
        let fits = match operand {
            Some(Type::Dyn) => !self.operands.is_empty(),
            Some(Type::List(items, _)) => {
                is_one_of(self.operands, operand) && is_one_of(self.items, Some(items))
            }
            Some(_) => is_one_of(self.operands, operand),
            None => self.operands.is_empty(),
        };
        let (least, most) = self.arguments;
        (self.form == form || self.form == Form::Both) && fits && (least..=most).contains(&arguments)
    }

    /// The type of the result for an operand of this type.
    pub(super) fn result(&self, operand: Option<&Type>) -> Type {
        let operand = operand.unwrap_or(&Type::Dyn);
        let inner = || match operand {
            Type::List(inner, _) | Type::Optional(inner) => inner.as_ref().clone(),
            _ => Type::Dyn,
        };
        match &self.returns {
            Returns::Is(known) => known.clone(),
            Returns::Same => operand.clone(),
            Returns::Inner => inner(),
            Returns::OptionalInner => Type::optional(inner()),
            Returns::OptionalSame => Type::optional(operand.clone()),
            Returns::Strings => Type::list(Type::String),
            Returns::Integers => Type::list(Type::Int),
            Returns::OptionalStrings => Type::optional(Type::list(Type::String)),
        }
    }
}

/// Whether a type is one of those that the letters stand for.
fn is_one_of(letters: &str, of: Option<&Type>) -> bool {
    of.is_some_and(|of| letters.contains('*') || *of == Type::Dyn || letters.contains(letter(of)))
}

/// The letter of a type in [`Function::operands`]; `*` stands for all.
fn letter(of: &Type) -> char {
    match of {
        Type::Dyn => '*',
        Type::Null => 'n',
        Type::Bool => 'b',
        Type::Int => 'i',
        Type::Uint => 'u',
        Type::Double => 'f',
        Type::String => 's',
        Type::Bytes => 'y',
        Type::Duration => 'd',
        Type::Timestamp => 't',
        Type::List(..) => 'l',
        Type::Map(..) => 'm',
        Type::Object(_) => 'o',
        Type::Optional(_) => '?',
        Type::Kind => 'T',
        Type::Library(QUANTITY) => 'Q',
        Type::Library(SEMVER) => 'V',
        Type::Library(IP) => 'I',
        Type::Library(CIDR) => 'C',
        Type::Library(URL) => 'U',
        Type::Library(_) => 'F',
    }
}

/// The types whose values have an order.
const ORDERED: &str = "iufbdtsy";

const QUANTITY: &str = "kubernetes.Quantity";
const SEMVER: &str = "kubernetes.Semver";
const IP: &str = "net.IP";
const CIDR: &str = "net.CIDR";
const URL: &str = "kubernetes.URL";
const FORMAT: &str = "kubernetes.NamedFormat";

const BOOL: Returns = Returns::Is(Type::Bool);
const INT: Returns = Returns::Is(Type::Int);
const UINT: Returns = Returns::Is(Type::Uint);
const DOUBLE: Returns = Returns::Is(Type::Double);
const STRING: Returns = Returns::Is(Type::String);
const BYTES: Returns = Returns::Is(Type::Bytes);
const DURATION: Returns = Returns::Is(Type::Duration);
const TIMESTAMP: Returns = Returns::Is(Type::Timestamp);
const DYN: Returns = Returns::Is(Type::Dyn);
const fn library(name: &'static str) -> Returns {
    Returns::Is(Type::Library(name))
}

const fn global(name: &'static str, operands: &'static str, returns: Returns) -> Function {
    Function { name, form: Form::Global, operands, items: "*", arguments: (0, 0), returns }
}

const fn method(name: &'static str, operands: &'static str, returns: Returns) -> Function {
    Function { name, form: Form::Method, operands, items: "*", arguments: (0, 0), returns }
}

impl Function {
    const fn with(mut self, least: usize, most: usize) -> Self {
        self.arguments = (least, most);
        self
    }

    const fn of(mut self, items: &'static str) -> Self {
        self.items = items;
        self
    }

    const fn both(mut self) -> Self {
        self.form = Form::Both;
        self
    }
}

/// Every function of kube-apiserver, except for those that the documentation of the module `cel` excludes.
pub(super) static FUNCTIONS: &[Function] = &[
    method("size", "sylm", INT).both(),
    global("type", "*", Returns::Is(Type::Kind)),
    global("dyn", "*", DYN),
    global("bool", "bs", BOOL),
    global("int", "iufst", INT),
    global("uint", "iufs", UINT),
    global("double", "iufs", DOUBLE),
    global("string", "biufsydtIC", STRING),
    global("bytes", "sy", BYTES),
    global("duration", "sd", DURATION),
    global("timestamp", "st", TIMESTAMP),
    method("getFullYear", "t", INT).with(0, 1),
    method("getMonth", "t", INT).with(0, 1),
    method("getDayOfYear", "t", INT).with(0, 1),
    method("getDayOfMonth", "t", INT).with(0, 1),
    method("getDate", "t", INT).with(0, 1),
    method("getDayOfWeek", "t", INT).with(0, 1),
    method("getHours", "td", INT).with(0, 1),
    method("getMinutes", "td", INT).with(0, 1),
    method("getSeconds", "td", INT).with(0, 1),
    method("getMilliseconds", "td", INT).with(0, 1),
    // Texts
    method("contains", "s", BOOL).with(1, 1),
    method("startsWith", "s", BOOL).with(1, 1),
    method("endsWith", "s", BOOL).with(1, 1),
    method("matches", "s", BOOL).with(1, 1),
    global("matches", "s", BOOL).with(1, 1),
    method("charAt", "s", STRING).with(1, 1),
    method("indexOf", "s", INT).with(1, 2),
    method("lastIndexOf", "s", INT).with(1, 2),
    method("lowerAscii", "s", STRING),
    method("upperAscii", "s", STRING),
    method("replace", "s", STRING).with(2, 3),
    method("split", "s", Returns::Strings).with(1, 2),
    method("substring", "s", STRING).with(1, 2),
    method("trim", "s", STRING),
    method("format", "s", STRING).with(1, 1),
    method("join", "l", STRING).of("s").with(0, 1),
    method("reverse", "l", Returns::Same),
    method("find", "s", STRING).with(1, 1),
    method("findAll", "s", Returns::Strings).with(1, 2),
    global("strings.quote", "s", STRING),
    // Lists
    method("isSorted", "l", BOOL).of(ORDERED),
    method("sum", "l", Returns::Inner).of("iufd"),
    method("min", "l", Returns::Inner).of(ORDERED),
    method("max", "l", Returns::Inner).of(ORDERED),
    method("indexOf", "l", INT).with(1, 1),
    method("lastIndexOf", "l", INT).with(1, 1),
    method("slice", "l", Returns::Same).with(2, 2),
    method("sort", "l", Returns::Same).of(ORDERED),
    method("flatten", "l", Returns::Is(Type::Dyn)).with(0, 1),
    method("distinct", "l", Returns::Same),
    method("first", "l", Returns::OptionalInner),
    method("last", "l", Returns::OptionalInner),
    global("lists.range", "i", Returns::Integers),
    global("sets.contains", "l", BOOL).with(1, 1),
    global("sets.equivalent", "l", BOOL).with(1, 1),
    global("sets.intersects", "l", BOOL).with(1, 1),
    // Optionals
    global("optional.of", "*", Returns::OptionalSame),
    global("optional.ofNonZeroValue", "*", Returns::OptionalSame),
    global("optional.none", "", Returns::OptionalInner),
    method("hasValue", "?", BOOL),
    method("value", "?", Returns::Inner),
    method("or", "?", Returns::Same).with(1, 1),
    method("orValue", "?", Returns::Inner).with(1, 1),
    // Kubernetes
    global("quantity", "s", library(QUANTITY)),
    global("isQuantity", "s", BOOL),
    method("isInteger", "Q", BOOL),
    method("asInteger", "Q", INT),
    method("asApproximateFloat", "Q", DOUBLE),
    global("sign", "Q", INT),
    method("add", "Q", Returns::Same).with(1, 1),
    method("sub", "Q", Returns::Same).with(1, 1),
    method("isGreaterThan", "QV", BOOL).with(1, 1),
    method("isLessThan", "QV", BOOL).with(1, 1),
    method("compareTo", "QV", INT).with(1, 1),
    global("semver", "s", library(SEMVER)).with(0, 1),
    global("isSemver", "s", BOOL).with(0, 1),
    method("major", "V", INT),
    method("minor", "V", INT),
    method("patch", "V", INT),
    global("ip", "s", library(IP)),
    global("isIP", "s", BOOL),
    global("ip.isCanonical", "s", BOOL),
    method("family", "I", INT),
    method("isUnspecified", "I", BOOL),
    method("isLoopback", "I", BOOL),
    method("isLinkLocalMulticast", "I", BOOL),
    method("isLinkLocalUnicast", "I", BOOL),
    method("isGlobalUnicast", "I", BOOL),
    global("cidr", "s", library(CIDR)),
    global("isCIDR", "s", BOOL),
    method("containsIP", "C", BOOL).with(1, 1),
    method("containsCIDR", "C", BOOL).with(1, 1),
    method("ip", "C", library(IP)),
    method("masked", "C", Returns::Same),
    method("prefixLength", "C", INT),
    global("url", "s", library(URL)),
    global("isURL", "s", BOOL),
    method("getScheme", "U", STRING),
    method("getHost", "U", STRING),
    method("getHostname", "U", STRING),
    method("getPort", "U", STRING),
    method("getEscapedPath", "U", STRING),
    method("getQuery", "U", DYN),
    global("format.named", "s", Returns::Is(Type::Dyn)),
    global("format.dns1123Label", "", library(FORMAT)),
    global("format.dns1123Subdomain", "", library(FORMAT)),
    global("format.dns1035Label", "", library(FORMAT)),
    global("format.qualifiedName", "", library(FORMAT)),
    global("format.dns1123LabelPrefix", "", library(FORMAT)),
    global("format.dns1123SubdomainPrefix", "", library(FORMAT)),
    global("format.dns1035LabelPrefix", "", library(FORMAT)),
    global("format.labelValue", "", library(FORMAT)),
    global("format.uri", "", library(FORMAT)),
    global("format.uuid", "", library(FORMAT)),
    global("format.byte", "", library(FORMAT)),
    global("format.date", "", library(FORMAT)),
    global("format.datetime", "", library(FORMAT)),
    method("validate", "F", Returns::OptionalStrings).with(1, 1),
];
