//! Records as services have them, about 600 bytes: a title, a text with the word frequencies of natural language, a
//! number, a category, tags.

use crate::Failure;
use crate::node::channel;
use collector::rpc::{RawDescriptor, pb};
use pb::collector_registry_client::CollectorRegistryClient;
use prost::Message as _;

pub(crate) const NAMESPACE: &str = "bench";
pub(crate) const TYPE: &str = "bench.v1.Article";
/// What stands in every second record.
pub(crate) const COMMON: &str = "commonword";

#[derive(Clone, PartialEq, prost::Message)]
pub(crate) struct Article {
    #[prost(string, tag = "1")]
    pub(crate) title: String,
    #[prost(string, tag = "2")]
    pub(crate) body: String,
    #[prost(int64, tag = "3")]
    pub(crate) number: i64,
    #[prost(string, tag = "4")]
    pub(crate) category: String,
    #[prost(string, repeated, tag = "5")]
    pub(crate) tags: Vec<String>,
}

const PROTO: &str = r#"
syntax = "proto3";
package bench.v1;
message Article {
  string title = 1;
  string body = 2;
  int64 number = 3;
  string category = 4;
  repeated string tags = 5;
}
"#;

/// Registers the type.
pub(crate) async fn register(address: &str) -> Result<(), Failure> {
    let file = protox::file::File::from_source("bench/v1/article.proto", PROTO)?;
    let request = pb::RegisterProtoRequest {
        namespace: NAMESPACE.to_owned(),
        file_descriptor: Some(RawDescriptor::from(bytes::Bytes::from(file.file_descriptor_proto().encode_to_vec()))),
        ..Default::default()
    };
    CollectorRegistryClient::new(channel(address).await?).register_proto(request).await?;
    Ok(())
}

/// A generator of its own, so that every run has the same records. Source: SplitMix64.
pub(crate) struct Words(u64);

impl Words {
    pub(crate) fn new(seed: u64) -> Self {
        Self(seed)
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// One of 20,000 words, the n-th about n times rarer than the first.
    fn word(&mut self) -> String {
        #[expect(clippy::cast_precision_loss, reason = "53 bits of a random number")]
        let unit = (self.next() >> 11) as f64 / (1_u64 << 53) as f64;
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "1 to 20,000")]
        let rank = 20_000_f64.powf(unit) as u64;
        format!("w{rank}")
    }

    /// The `n`-th record: `rare<n / 20>` is in 20 records, `some<n / 1000>` in 1,000, [`COMMON`] in every second one.
    pub(crate) fn article(&mut self, n: usize) -> Article {
        let words: Vec<String> = (0..60 + self.next() % 40).map(|_| self.word()).collect();
        let common = if n.is_multiple_of(2) { COMMON } else { "otherword" };
        Article {
            title: format!("rare{} some{} {common}", n / 20, n / 1_000),
            body: words.join(" "),
            number: i64::try_from(n).unwrap_or(i64::MAX) / 20,
            category: format!("category {}", n % 100),
            tags: vec![self.word(), self.word()],
        }
    }

    pub(crate) fn item(&mut self, n: usize) -> prost_types::Any {
        prost_types::Any { type_url: format!("type.googleapis.com/{TYPE}"), value: self.article(n).encode_to_vec() }
    }
}
