//! Asks a service outside with a key that it never sees, and remembers the answers: config, secret, http and collections
//! in one handler.

use collector_guest::collections::Collection;
use collector_guest::{Code, Context, Fault, Secret, config, http};
use proto::{Forecast, NowReply, NowRequest, Weather, WeatherService};

/// What `proto/weather.proto` says, as Rust.
pub mod proto {
    collector_guest::include_proto!("weather.v1");
}

/// The handler.
pub struct Station;

impl Weather for Station {
    fn now(_: &Context, NowRequest { city }: NowRequest) -> Result<NowReply, Fault> {
        if city.is_empty() || !city.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(Fault::invalid_argument("no such city").with_violation("city", "must be letters of a to z"));
        }
        let known = Collection::<Forecast>::named("forecasts");
        match known.get(&city) {
            Ok((forecast, _)) => return Ok(NowReply { forecast: Some(forecast), remembered: true }),
            Err(fault) if fault.code() == Code::NotFound => {}
            Err(fault) => return Err(fault),
        }
        let forecast = ask(&city)?;
        match known.create(Some(&city), &forecast) {
            Err(fault) if fault.code() != Code::AlreadyExists => return Err(fault),
            _ => {} // somebody else asked at the same time
        }
        Ok(NowReply { forecast: Some(forecast), remembered: false })
    }
}

fn ask(city: &str) -> Result<Forecast, Fault> {
    let endpoint = config::get("endpoint")
        .ok_or_else(|| Fault::failed_precondition("nobody said where to ask: config=endpoint=..."))?;
    let key = Secret::open("weather-key")?;
    let answer = http::Request::get([&endpoint, "?city=", city].concat())
        .header("accept", "text/plain")
        .secret_header("authorization", "Bearer ", &key)
        .send()?;
    match answer.status {
        200 => Ok(Forecast { text: String::from_utf8_lossy(&answer.body).into_owned() }),
        status => Err(Fault::unavailable(["the weather service answered ", &status.to_string()].concat())),
    }
}

collector_guest::export!(WeatherService<Station>);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_city_that_would_change_the_url_is_none() {
        let context = Context::new("acme", "weather.v1.Weather", "Now");
        for city in ["", "Oslo&x=y", "../oslo", "São Paulo"] {
            let refused = Station::now(&context, NowRequest { city: city.into() }).unwrap_err();
            assert_eq!(refused.code(), Code::InvalidArgument);
        }
        let nobody = Station::now(&context, NowRequest { city: "Oslo".into() }).unwrap_err();
        assert_eq!(nobody.code(), Code::Unavailable, "outside of a node there are no collections");
    }
}
