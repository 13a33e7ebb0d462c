//! Values of requests, as documents have them.

use crate::collections::document::{narrow, push_bytes, push_unsigned, read_moment, read_span};
use crate::collections::form::Holds;
use crate::domain::one_line;
use crate::store::{Compare, Scalar, Test};
use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind};
use prost_types::Value;
use prost_types::value::Kind as Given;

/// Longest text to compare with, in bytes. 64 KiB: as the longest text expression; longer ones are documents.
const TEXT_MAX: usize = 64 << 10;
/// Longest text to look for inside of others, in bytes. Source: threats.md B4, patterns; looking for it costs its length
/// times the field's in the worst case, and cannot be interrupted.
const SUBSTRING_MAX: usize = 256;

/// Where a value stands among the values that a field can have.
#[derive(Debug, PartialEq)]
pub(super) enum Point {
    /// At this one.
    At(Scalar),
    /// Above this one and below the next.
    After(Scalar),
    /// Above all.
    Above,
    /// Below all.
    Below,
}

impl Point {
    /// What a field's value has to be that compares so with it.
    pub(super) fn test(self, compare: Compare) -> Test {
        use Compare::{Equal, Greater, GreaterEqual, Less, LessEqual, NotEqual};
        match (self, compare) {
            (Self::At(value), compare) => Test::Compare(compare, value),
            (Self::After(value), Greater | GreaterEqual) => Test::Compare(Greater, value),
            (Self::After(value), Less | LessEqual) => Test::Compare(LessEqual, value),
            (Self::Above, Less | LessEqual) | (Self::Below, Greater | GreaterEqual) => Test::Present,
            (_, NotEqual) => Test::Present,
            (_, Equal | Greater | GreaterEqual | Less | LessEqual) => Test::In(Vec::new()),
        }
    }
}

/// A value to compare a declared field with.
///
/// * `ordered`: whether above and below are asked for.
/// * errors: a value that the field cannot be compared with, as it goes on after the field's name.
pub(super) fn typed(holds: &Holds, value: &Value, ordered: bool) -> Result<Point, String> {
    match holds {
        Holds::Scalar(kind) | Holds::Wrapper(kind) => scalar(kind, value, ordered),
        Holds::Timestamp => {
            let moment = read_moment(text(value)?);
            moment.map(|moment| Point::At(Scalar::Text(moment))).ok_or_else(|| {
                "must be compared with a moment as in JSON, such as \"2024-05-06T07:08:09.5Z\"".to_owned()
            })
        }
        Holds::Duration => {
            let span = read_span(text(value)?);
            let wanted = || "must be compared with a duration as in JSON, such as \"1.5s\"".to_owned();
            span.map(|span| Point::At(Scalar::Text(span))).ok_or_else(wanted)
        }
        Holds::Mask => Ok(Point::At(Scalar::Text(text(value)?.to_owned()))),
        Holds::Struct | Holds::Value | Holds::List | Holds::Any => loose(value).map(Point::At),
        Holds::Message(_) => Err("is a message: it can be tested for EXISTS and NOT_EXISTS only".to_owned()),
    }
}

fn scalar(kind: &Kind, value: &Value, ordered: bool) -> Result<Point, String> {
    match kind {
        Kind::Bool => match &value.kind {
            Some(Given::BoolValue(value)) => Ok(Point::At(Scalar::Bool(*value))),
            _ => Err(wants("true or false", value)),
        },
        Kind::String => Ok(Point::At(Scalar::Text(text(value)?.to_owned()))),
        Kind::Bytes if ordered => Err("is bytes: they can be compared for equality only".to_owned()),
        Kind::Bytes => bytes(text(value)?).map(|bytes| {
            let mut shown = String::new();
            push_bytes(&bytes, &mut shown);
            Point::At(Scalar::Text(shown))
        }),
        Kind::Float => real(value, true),
        Kind::Double => real(value, false),
        Kind::Enum(of) => number_of(of, value),
        Kind::Uint64 | Kind::Fixed64 => Ok(whole(value)?.among(0, u64::MAX.into(), |number| {
            let mut shown = String::with_capacity(20);
            push_unsigned(u64::try_from(number).unwrap_or_default(), &mut shown);
            Scalar::Text(shown)
        })),
        _ => Ok(whole(value)?.among_signed()),
    }
}

fn number_of(of: &EnumDescriptor, value: &Value) -> Result<Point, String> {
    let Some(Given::StringValue(name)) = &value.kind else { return Ok(whole(value)?.among_signed()) };
    match of.get_value_by_name(name) {
        Some(known) => Ok(Point::At(Scalar::Int(known.number().into()))),
        None => Err(format!("must be compared with a value of {}; {:?} is none", of.full_name(), one_line(name, 128))),
    }
}

/// A number among the whole numbers.
enum Whole {
    At(i128),
    /// Between this one and the next.
    After(i128),
    High,
    Low,
}

impl Whole {
    fn among(self, least: i128, most: i128, scalar: impl Fn(i128) -> Scalar) -> Point {
        match self {
            Self::Low => Point::Below,
            Self::High => Point::Above,
            Self::At(number) | Self::After(number) if number < least => Point::Below,
            Self::At(number) if number > most => Point::Above,
            Self::After(number) if number >= most => Point::Above,
            Self::At(number) => Point::At(scalar(number)),
            Self::After(number) => Point::After(scalar(number)),
        }
    }

    fn among_signed(self) -> Point {
        let int = |number| Scalar::Int(i64::try_from(number).unwrap_or_default());
        self.among(i64::MIN.into(), i64::MAX.into(), int)
    }
}

/// A number, or a decimal text of one, exactly.
fn whole(value: &Value) -> Result<Whole, String> {
    const WANTED: &str = "a number, or the decimal text of one";
    match &value.kind {
        Some(Given::NumberValue(number)) => whole_of(*number),
        Some(Given::StringValue(text)) => match decimal(text) {
            Some(whole) => Ok(whole),
            None => text.parse().ok().filter(|_| is_number(text)).map_or(Err(wants(WANTED, value)), whole_of),
        },
        _ => Err(wants(WANTED, value)),
    }
}

/// Digits, with a sign and a fraction if need be.
fn decimal(text: &str) -> Option<Whole> {
    /// Longer numbers are rounded: they are far outside of every type, or have a fraction that no number tells apart.
    const DIGITS_MAX: usize = 36;
    let (negative, digits) = text.strip_prefix('-').map_or((false, text), |digits| (true, digits));
    let (digits, fraction) = digits.split_once('.').unwrap_or((digits, "0"));
    let plain = |part: &str| !part.is_empty() && part.len() <= DIGITS_MAX && part.bytes().all(|b| b.is_ascii_digit());
    if !plain(digits) || !plain(fraction) {
        return None;
    }
    let number: i128 = digits.parse().ok()?;
    let exact = fraction.bytes().all(|digit| digit == b'0');
    Some(match (exact, negative) {
        (true, false) => Whole::At(number),
        (true, true) => Whole::At(-number),
        (false, false) => Whole::After(number),
        (false, true) => Whole::After(-number - 1),
    })
}

#[expect(clippy::cast_possible_truncation, reason = "bounded just before")]
fn whole_of(number: f64) -> Result<Whole, String> {
    /// Far outside of every type, far inside of i128.
    const BOUND: f64 = 1e30;
    if !number.is_finite() {
        return Err("must be compared with a finite number".to_owned());
    }
    Ok(match number {
        high if high > BOUND => Whole::High,
        low if low < -BOUND => Whole::Low,
        exact if exact.fract() == 0.0 => Whole::At(exact as i128),
        between => Whole::After(between.floor() as i128),
    })
}

/// A number for a floating field: rounded as the field's values are.
fn real(value: &Value, single: bool) -> Result<Point, String> {
    const WANTED: &str = "a number, \"NaN\", \"Infinity\" or \"-Infinity\"";
    let number = match &value.kind {
        Some(Given::NumberValue(number)) => *number,
        Some(Given::StringValue(text)) => match text.as_str() {
            "NaN" => f64::NAN,
            "Infinity" => f64::INFINITY,
            "-Infinity" => f64::NEG_INFINITY,
            other => other.parse().ok().filter(|_| is_number(other)).ok_or_else(|| wants(WANTED, value))?,
        },
        _ => return Err(wants(WANTED, value)),
    };
    let number = if single { f64::from(narrow(number)) } else { number };
    Ok(Point::At(if number.is_nan() { Scalar::Text("NaN".to_owned()) } else { Scalar::Real(number) }))
}

/// Whether a text that Rust reads as a number is one to JSON too: no `inf`, no `+1`.
fn is_number(text: &str) -> bool {
    text.starts_with(|first: char| first == '-' || first.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_digit() || b"+-.eE".contains(&byte))
}

fn bytes(text: &str) -> Result<Vec<u8>, String> {
    const LENIENT: GeneralPurposeConfig = GeneralPurposeConfig::new()
        .with_decode_padding_mode(DecodePaddingMode::Indifferent)
        .with_decode_allow_trailing_bits(true);
    const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, LENIENT);
    const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, LENIENT);
    let read = STANDARD.decode(text).or_else(|_| URL_SAFE.decode(text));
    read.map_err(|_| "must be compared with bytes as in JSON, which is base64".to_owned())
}

/// A value to compare with what nobody declared.
#[expect(clippy::cast_possible_truncation, reason = "whole, and within the bounds")]
pub(super) fn loose(value: &Value) -> Result<Scalar, String> {
    /// 2^63, which is the first number that is too large.
    const BOUND: f64 = 9_223_372_036_854_775_808.0;
    match &value.kind {
        Some(Given::BoolValue(value)) => Ok(Scalar::Bool(*value)),
        Some(Given::StringValue(_)) => Ok(Scalar::Text(text(value)?.to_owned())),
        Some(Given::NumberValue(number)) if !number.is_finite() => {
            Err("must be compared with a finite number".to_owned())
        }
        Some(Given::NumberValue(number)) if number.fract() == 0.0 && (-BOUND..BOUND).contains(number) => {
            Ok(Scalar::Int(*number as i64))
        }
        Some(Given::NumberValue(number)) => Ok(Scalar::Real(*number)),
        _ => Err(wants("a text, a number, true or false", value)),
    }
}

/// A text to look for in others.
pub(super) fn substring(value: &Value) -> Result<String, String> {
    let text = text(value)?;
    if text.len() > SUBSTRING_MAX {
        return Err(format!("looks for a text of {} bytes, at most {SUBSTRING_MAX} are allowed", text.len()));
    }
    Ok(text.to_owned())
}

fn text(value: &Value) -> Result<&str, String> {
    let Some(Given::StringValue(text)) = &value.kind else { return Err(wants("a text", value)) };
    if text.len() > TEXT_MAX {
        return Err(format!("is compared with a text of {} bytes, at most {TEXT_MAX} are allowed", text.len()));
    }
    Ok(text)
}

fn wants(what: &str, found: &Value) -> String {
    let found = match &found.kind {
        None | Some(Given::NullValue(_)) => "null",
        Some(Given::NumberValue(_)) => "a number",
        Some(Given::StringValue(_)) => "another text",
        Some(Given::BoolValue(_)) => "true or false",
        Some(Given::StructValue(_)) => "an object",
        Some(Given::ListValue(_)) => "a list",
    };
    format!("must be compared with {what}, not with {found}")
}
