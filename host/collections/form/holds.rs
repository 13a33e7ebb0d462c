//! What a field holds, once it is not only a type but something with a meaning in queries.

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor, Value};

/// What a field, an element or a map's value holds.
#[derive(Debug, Clone)]
pub(in crate::collections) enum Holds {
    /// A scalar, or an enum.
    Scalar(Kind),
    /// A message around a scalar that is absent where the message is, as `google.protobuf.Int64Value`.
    Wrapper(Kind),
    /// `google.protobuf.Timestamp`.
    Timestamp,
    /// `google.protobuf.Duration`.
    Duration,
    /// `google.protobuf.FieldMask`.
    Mask,
    /// `google.protobuf.Struct`.
    Struct,
    /// `google.protobuf.Value`.
    Value,
    /// `google.protobuf.ListValue`.
    List,
    /// `google.protobuf.Any`.
    Any,
    /// Any other message.
    Message(MessageDescriptor),
}

impl Holds {
    pub(in crate::collections) fn of(kind: Kind) -> Self {
        match kind {
            Kind::Message(message) => Self::of_message(message),
            scalar => Self::Scalar(scalar),
        }
    }

    pub(in crate::collections) fn of_message(message: MessageDescriptor) -> Self {
        let Some(name) = message.full_name().strip_prefix("google.protobuf.") else { return Self::Message(message) };
        match name {
            "Timestamp" => Self::Timestamp,
            "Duration" => Self::Duration,
            "FieldMask" => Self::Mask,
            "Struct" => Self::Struct,
            "Value" => Self::Value,
            "ListValue" => Self::List,
            "Any" => Self::Any,
            "DoubleValue" => Self::Wrapper(Kind::Double),
            "FloatValue" => Self::Wrapper(Kind::Float),
            "Int64Value" => Self::Wrapper(Kind::Int64),
            "UInt64Value" => Self::Wrapper(Kind::Uint64),
            "Int32Value" => Self::Wrapper(Kind::Int32),
            "UInt32Value" => Self::Wrapper(Kind::Uint32),
            "BoolValue" => Self::Wrapper(Kind::Bool),
            "StringValue" => Self::Wrapper(Kind::String),
            "BytesValue" => Self::Wrapper(Kind::Bytes),
            _ => Self::Message(message),
        }
    }

    /// A whole record: a message, unless it is one that nobody declared the inside of.
    pub(in crate::collections) fn of_root(message: &MessageDescriptor) -> Self {
        match Self::of_message(message.clone()) {
            open @ (Self::Struct | Self::Any) => open,
            _ => Self::Message(message.clone()),
        }
    }

    /// Whether nobody declared what is inside.
    pub(in crate::collections) fn is_loose(&self) -> bool {
        matches!(self, Self::Struct | Self::Value | Self::List | Self::Any)
    }
}

/// The number of an enum field without a value.
pub(in crate::collections) fn default_number(field: &FieldDescriptor) -> i32 {
    match field.default_value() {
        Value::EnumNumber(number) => number,
        _ => 0,
    }
}
