//! A network that falls in two: network namespaces and a pair of interfaces between them.

use super::*;
use std::process::Command;

/// A namespace with a cable to this one.
struct Elsewhere {
    name: String,
    cable: String,
    /// Addresses of this side and of the other.
    ends: [String; 2],
}

impl Elsewhere {
    /// * errors: why it cannot be made here.
    fn new() -> Result<Self, String> {
        let process = std::process::id();
        let (name, cable) = (format!("collector{process}"), format!("cm{process}"));
        let net = format!("10.{}.{}", 64 + process % 64, (process / 64) % 256);
        let made = Self { name, cable, ends: [format!("{net}.1"), format!("{net}.2")] };
        let (name, cable, far) = (&made.name, &made.cable, format!("{}f", made.cable));
        ip(&["netns", "add", name])?;
        ip(&["link", "add", cable, "type", "veth", "peer", "name", &far, "netns", name])?;
        ip(&["addr", "add", &format!("{}/30", made.ends[0]), "dev", cable])?;
        ip(&["link", "set", cable, "up"])?;
        ip(&["-n", name, "addr", "add", &format!("{}/30", made.ends[1]), "dev", &far])?;
        ip(&["-n", name, "link", "set", &far, "up"])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        Ok(made)
    }

    /// Calls a node that is there.
    fn calls(&self, place: &Place) {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name, env!("CARGO_BIN_EXE_collector"), "call", "--node", &place.url()]);
        command.args(["acme/misbehave.v1.Misbehave/Sleep", "-d", &amount(1).to_string()]);
        let done = command.output().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    }

    fn connect(&self, is_up: bool) {
        ip(&["link", "set", &self.cable, if is_up { "up" } else { "down" }]).unwrap();
    }
}

impl Drop for Elsewhere {
    fn drop(&mut self) {
        let _ = ip(&["link", "del", &self.cable]);
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    let done = Command::new("ip").args(words).output().map_err(|why| format!("ip cannot be run: {why}"))?;
    match done.status.success() {
        true => Ok(()),
        false => Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&done.stderr))),
    }
}

/// Two here and one elsewhere, all of them each other's peers.
fn mesh(elsewhere: &Elsewhere) -> Mesh {
    let data = tempfile::tempdir().unwrap();
    let [here, there] = &elsewhere.ends;
    let at = [format!("{here}:7051"), format!("{here}:7052"), format!("{there}:7051")];
    let mut places: Vec<Place> =
        at.iter().enumerate().map(|(number, at)| Place::new(data.path(), number, at.clone())).collect();
    for (number, place) in places.iter_mut().enumerate() {
        let others: Vec<&str> = at.iter().map(String::as_str).filter(|other| *other != at[number]).collect();
        place.knows(&others);
        place.settings = vec!["--insecure".into()];
    }
    places[2].before = ["ip", "netns", "exec", &elsewhere.name].map(str::to_owned).into();
    let nodes = places.iter().map(|place| Some(place.start())).collect();
    Mesh { places, nodes, _data: data }
}

/// Waits, longer than for anything on one machine: a connection that gets no answer is given up after five seconds.
async fn at_last<F: Future<Output = bool>>(what: &str, mut holds: impl FnMut() -> F) {
    let deadline = Instant::now() + Duration::from_secs(30);
    while !holds().await {
        assert!(Instant::now() < deadline, "{what} did not happen");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn m08_both_sides_of_a_network_that_falls_in_two_go_on_and_find_each_other_again() {
    let elsewhere = match Elsewhere::new() {
        Ok(elsewhere) => elsewhere,
        Err(why) => return leave_out("COLLECTOR_NETNS", "required", &why),
    };
    let mesh = mesh(&elsewhere);
    for number in [1, 2] {
        mesh.places[number].deploy("misbehave").await;
    }
    mesh.places[0].answers_for(&["n1", "n2"]).await;
    // A call that the far one has, when the cable is cut.
    let first = mesh.places[0].clone();
    let lost = tokio::spawn(async move {
        let mut client = CollectiveDispatcherClient::new(first.channel().await);
        client.dispatch(clients::nap(60_000, "n2")).await
    });
    let crowd = Crowd::naps(&[&mesh.places[0], &mesh.places[0]]);
    crowd.calls(50).await;
    elsewhere.connect(false);
    let cut = Instant::now();
    let lost = lost.await.unwrap().unwrap_err();
    assert_eq!(lost.code(), Code::Unavailable, "{lost:?}");
    assert!(cut.elapsed() < 2 * SOON_HERE, "the loss was noticed after {:?}", cut.elapsed());
    let unlinked = async || {
        let mut client = CollectiveDispatcherClient::new(mesh.places[0].channel().await);
        client.dispatch(clients::nap(0, "n2")).await.is_err_and(|why| why.code() == Code::NotFound)
    };
    at_last("the end of the link", unlinked).await;
    let known = Instant::now();
    crowd.calls(100).await;
    // The far side goes on, too, with what it has.
    elsewhere.calls(&mesh.places[2]);
    elsewhere.connect(true);
    let answers = async || {
        let mut client = CollectiveDispatcherClient::new(mesh.places[0].channel().await);
        client.dispatch(clients::nap(0, "n2")).await.is_ok()
    };
    at_last("the link", answers).await;
    crowd.calls(50).await;
    for failed in crowd.end().await {
        assert!(failed.began < known && failed.status.code() == Code::Unavailable, "{failed:?}");
    }
}
