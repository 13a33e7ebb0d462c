//! The messages of the plugins that the suite calls. Source: plugins/*/proto.

/// `greeter.v1.HelloRequest`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Hello {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub locale: String,
}

/// `greeter.v1.HelloReply`
#[derive(Clone, PartialEq, prost::Message)]
pub struct HelloReply {
    #[prost(string, tag = "1")]
    pub text: String,
}

/// `greeter.v1.DescribeReply`, what is read of it
#[derive(Clone, PartialEq, prost::Message)]
pub struct Described {
    #[prost(bool, tag = "5")]
    pub has_deadline: bool,
    #[prost(uint64, tag = "6")]
    pub remaining_ms: u64,
}

/// Any message of which field 1 is a text.
#[derive(Clone, PartialEq, prost::Message)]
pub struct Text {
    #[prost(string, tag = "1")]
    pub text: String,
}

/// `misbehave.v1.Sin` and `hostile.v1.Order`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Sin {
    #[prost(uint64, tag = "1")]
    pub amount: u64,
    #[prost(string, tag = "2")]
    pub text: String,
}

/// `misbehave.v1.Outcome` and `hostile.v1.Report`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Outcome {
    #[prost(uint64, tag = "1")]
    pub amount: u64,
    #[prost(string, tag = "2")]
    pub text: String,
}

/// `errands.v1.Errand`
#[derive(Clone, PartialEq, prost::Message)]
pub struct Errand {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub text: String,
    #[prost(string, tag = "3")]
    pub id: String,
}

/// `errands.v1.FetchErrand`
#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchErrand {
    #[prost(string, tag = "1")]
    pub method: String,
    #[prost(string, tag = "2")]
    pub url: String,
    #[prost(message, repeated, tag = "3")]
    pub headers: Vec<FetchHeader>,
    #[prost(bytes = "vec", tag = "4")]
    pub body: Vec<u8>,
}

/// `errands.v1.Header`
#[derive(Clone, PartialEq, prost::Message)]
pub struct FetchHeader {
    #[prost(string, tag = "1")]
    pub name: String,
    #[prost(string, tag = "2")]
    pub value: String,
    #[prost(string, tag = "3")]
    pub secret: String,
}

/// `errands.v1.FileErrand`
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileErrand {
    #[prost(string, tag = "1")]
    pub folder: String,
    #[prost(string, tag = "2")]
    pub name: String,
    #[prost(string, tag = "3")]
    pub to: String,
    #[prost(uint64, optional, tag = "4")]
    pub offset: Option<u64>,
    #[prost(uint32, tag = "5")]
    pub length: u32,
    #[prost(bytes = "vec", tag = "6")]
    pub data: Vec<u8>,
}

/// `errands.v1.FileFound`, what is read of it
#[derive(Clone, PartialEq, prost::Message)]
pub struct FileFound {
    #[prost(string, tag = "1")]
    pub text: String,
    #[prost(string, repeated, tag = "2")]
    pub names: Vec<String>,
    #[prost(bytes = "vec", tag = "3")]
    pub data: Vec<u8>,
    #[prost(uint64, tag = "4")]
    pub size: u64,
}
