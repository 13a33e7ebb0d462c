//! What the engine is asked for, what happens when it does not answer, and images from registries.

use crate::support::{
    Mood, NODE_KEY, OciRegistry, Proxy, Rig, TestNode, container_config, docker, error, image_job, job, output_of,
    plugin, tool, until,
};
use bollard::query_parameters::CreateImageOptionsBuilder;
use collector::domain::{Digest, ImageRef, Kind};
use collector::exec::container::{Config, ContainerExecutor};
use collector::exec::{ExecError, Executor as _, Native, Origin};
use collector::lifecycle::Lifecycle;
use futures_util::StreamExt as _;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long a call may wait for an engine that does not answer: five seconds, and what a busy machine adds.
const WITHIN: Duration = Duration::from_secs(6);

#[tokio::test]
async fn k01_the_engine_keeps_every_field_of_the_request() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    let mut call = Box::pin(rig.call("Sleep", ""));
    // One that is listed may be gone when it is asked for: a busy engine's first attempt, that was given up.
    let inspected = std::cell::OnceCell::new();
    tokio::select! {
        end = &mut call => panic!("{end:?}"),
        () = until("it is there", async || {
            for id in rig.containers().await.into_iter().filter_map(|one| one.id) {
                if let Ok(found) = rig.docker.inspect_container(&id, None).await {
                    let _ = inspected.set(found);
                }
            }
            inspected.get().is_some()
        }) => {}
    }
    let inspected = inspected.into_inner().unwrap();
    let mut golden: Value =
        serde_json::from_str(include_str!("../../host/exec/container/request.golden.json")).unwrap();
    let mut host = golden["HostConfig"].take();
    host["SecurityOpt"][1] = format!("seccomp={}", include_str!("../../host/exec/container/seccomp.json")).into();
    // What the engine fills in.
    host["RestartPolicy"]["MaximumRetryCount"] = 0.into();
    host["LogConfig"]["Config"] = json!({});
    let kept = serde_json::to_value(inspected.host_config.unwrap()).unwrap();
    for (key, value) in host.as_object().unwrap() {
        assert_eq!(&kept[key], value, "HostConfig.{key}");
    }
    for key in ["Binds", "Mounts", "Devices", "DeviceRequests", "DeviceCgroupRules", "CapAdd", "Sysctls", "GroupAdd"] {
        let none = kept[key].is_null() || kept[key].as_array().is_some_and(Vec::is_empty);
        assert!(none, "HostConfig.{key} = {}", kept[key]);
    }
    for key in ["PidMode", "UTSMode", "UsernsMode", "CgroupParent", "VolumeDriver"] {
        assert!(kept[key].is_null() || kept[key] == "", "HostConfig.{key} = {}", kept[key]);
    }
    assert!(inspected.mounts.unwrap_or_default().is_empty());

    let config = serde_json::to_value(inspected.config.unwrap()).unwrap();
    for key in ["Hostname", "User", "Tty", "OpenStdin", "StdinOnce", "Entrypoint", "WorkingDir", "Healthcheck"] {
        assert_eq!(config[key], golden[key], "Config.{key}");
    }
    assert_eq!(config["Labels"]["collector.node"], rig.node.as_str());
    let networks = inspected.network_settings.unwrap().networks.unwrap();
    assert!(networks.keys().all(|name| name == "none"), "{networks:?}");
}

async fn executor(config: Config) -> (ContainerExecutor, Lifecycle) {
    let lifecycle = Lifecycle::default();
    (ContainerExecutor::start(config, true, "test-k04", &NODE_KEY, 64, lifecycle.clone()).await, lifecycle)
}

#[tokio::test]
async fn k04_an_engine_that_is_not_there_or_makes_no_sense_is_said_so_within_five_seconds() {
    let proxies = [
        (Proxy::absent(), "no socket"),
        (Proxy::of(Mood::Silent), "does not answer within 5 s"),
        (Proxy::of(Mood::Garbage), "makes no sense"),
        (Proxy::of(Mood::Nonsense), "makes no sense"),
        (Proxy::of(Mood::Away), "makes no sense"),
    ];
    let began = Instant::now();
    let all = proxies.iter().map(|(proxy, why)| async move {
        let (executor, _life) = executor(Config { socket: proxy.socket(), ..container_config() }).await;
        assert!(began.elapsed() < Duration::from_millis(2_500), "a start waits for nobody: {:?}", began.elapsed());
        assert!(executor.availability().is_err());
        executor.asked().await;
        let said = executor.availability().unwrap_err();
        assert!(said.contains(why), "{why}: {said}");
        assert!(!said.contains(&proxy.socket()[7..]), "{said}");
        let refused = error(executor.run(job("Echo", "")).await);
        assert!(matches!(refused, ExecError::Unavailable(_)), "{refused:?}");
        let acme = "acme".parse().unwrap();
        assert!(matches!(executor.accepts(&acme, Kind::NativeElf), Err(ExecError::Unavailable(_))));
    });
    futures_util::future::join_all(all).await;
    assert!(began.elapsed() < Duration::from_millis(5_500), "{:?}", began.elapsed());
}

#[tokio::test]
async fn an_engine_that_nobody_wants_is_not_asked() {
    let proxy = Proxy::of(Mood::Silent);
    let began = Instant::now();
    let config = Config { socket: proxy.socket(), ..container_config() };
    let executor = ContainerExecutor::start(config, false, "test", &NODE_KEY, 64, Lifecycle::default()).await;
    let said = executor.availability().unwrap_err();
    assert!(said.contains("exec.native") && said.contains("exec.container.images"), "{said}");
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test]
async fn k04_an_engine_may_come_late_leave_and_come_back() {
    if docker().await.is_none() {
        return;
    }
    let mut proxy = Proxy::absent();
    let socket = proxy.socket();
    let Some(rig) = Rig::start(|_| ()).await else { return };
    let lifecycle = Lifecycle::default();
    let config = Config { socket, ..container_config() };
    // With the rig's name, so that the rig cleans up.
    let executor = ContainerExecutor::start(config, true, &rig.node, &NODE_KEY, 64, lifecycle.clone()).await;
    assert!(executor.availability().is_err());
    proxy.open(Mood::Well);
    until("it is found", async || executor.availability().is_ok()).await;
    assert_eq!(output_of(executor.run(job("Echo", "late")).await), "late");

    for mood in [Mood::Away, Mood::Garbage, Mood::Silent] {
        proxy.set(mood);
        // One request that gets no answer, one question whether anybody is there; then nobody waits any more.
        for _ in 0..2 {
            let began = Instant::now();
            let gone = error(executor.run(job("Echo", "")).await);
            assert!(matches!(gone, ExecError::Broken(_)), "{mood:?}: {gone:?}");
            assert!(began.elapsed() < WITHIN, "{mood:?}: {:?}", began.elapsed());
        }
        assert_eq!(executor.availability(), Ok(()), "this machine has one, it is only away");
        proxy.set(Mood::Well);
        until("it is back", async || executor.run(job("Echo", "")).await.is_ok()).await;
    }
    lifecycle.kill();
    rig.gone().await;
}

#[tokio::test]
async fn k04_neither_a_start_nor_wasm_waits_for_an_engine_that_is_silent_or_hangs() {
    let greeter = plugin("greeter");
    let hello = json!({ "name": "Ada" });
    for mood in [Mood::Silent, Mood::Hangs("/containers/json")] {
        if mood != Mood::Silent && docker().await.is_none() {
            return;
        }
        let proxy = Proxy::of(mood);
        let began = Instant::now();
        let node = TestNode::start_with(|config| {
            config.exec.native = vec![Native::Container];
            config.exec.container = Config { socket: proxy.socket(), ..container_config() };
        })
        .await;
        assert!(began.elapsed() < WITHIN, "{mood:?}: it serves after {:?}", began.elapsed());
        node.call(&greeter, "SayHello", hello.clone()).await.unwrap();
        let began = Instant::now();
        for _ in 0..20 {
            node.call(&greeter, "SayHello", hello.clone()).await.unwrap();
        }
        assert!(began.elapsed() < Duration::from_secs(2), "{mood:?}: {:?}", began.elapsed());
    }
}

#[tokio::test]
async fn k04_an_engine_that_hangs_while_an_image_is_made_is_said_so_within_five_seconds() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    let proxy = Proxy::of(Mood::Hangs("/images/create"));
    let config = Config { socket: proxy.socket(), ..container_config() };
    // With the rig's name, so that the rig cleans up.
    let executor = ContainerExecutor::start(config, true, &rig.node, &NODE_KEY, 64, rig.lifecycle.clone()).await;
    executor.asked().await;
    for _ in 0..2 {
        let began = Instant::now();
        let gone = error(executor.run(job("Echo", "")).await);
        assert!(matches!(gone, ExecError::Broken(_)), "{gone:?}");
        assert!(began.elapsed() < WITHIN, "{:?}", began.elapsed());
    }
    // Two are being made, sixteen wait: whoever comes then is told at once.
    let distinct = |number: u8| {
        let mut call = job("Echo", "");
        call.code.digest = Digest::of(&[number]);
        call
    };
    let folder = tempfile::tempdir().unwrap();
    let calls = (0..19_u8).map(|number| {
        let mut call = distinct(number);
        let file = folder.path().join(number.to_string());
        std::fs::write(&file, [number]).unwrap();
        call.code.origin = Origin::File(file);
        executor.run(call)
    });
    let answers = futures_util::future::join_all(calls).await;
    let busy = answers.into_iter().filter(|answer| matches!(answer, Err(why) if matches!(why.error, ExecError::Busy)));
    assert_eq!(busy.count(), 1);
}

#[tokio::test]
async fn a_cut_stream_is_never_an_answer() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    assert_eq!(rig.said("Halves", "").await, "first half|second half");
    let proxy = Proxy::of(Mood::CutsAfter("first half|"));
    for warm in [0, 1] {
        let config = Config { socket: proxy.socket(), warm, ..container_config() };
        let executor = ContainerExecutor::start(config, true, &rig.node, &NODE_KEY, 64, rig.lifecycle.clone()).await;
        executor.asked().await;
        let cut = error(executor.run(job("Halves", "")).await);
        assert!(matches!(cut, ExecError::Broken(_)), "warm = {warm}: {cut:?}");
    }
    rig.gone().await;
}

#[tokio::test]
async fn a_container_that_somebody_between_says_was_not_made_is_removed_all_the_same() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    let proxy = Proxy::of(Mood::Spoils("/containers/create"));
    let config = Config { socket: proxy.socket(), ..container_config() };
    let executor = ContainerExecutor::start(config, true, &rig.node, &NODE_KEY, 64, rig.lifecycle.clone()).await;
    executor.asked().await;
    // The engine makes it: only its word on the way back is spoiled.
    let failed = executor.run(job("Echo", "")).await;
    assert!(matches!(error(failed), ExecError::Broken(_)));
    rig.gone().await;
    until("its slot is free", async || executor.stats().await.running == 0).await;
}

#[tokio::test]
async fn k03_an_image_that_says_it_is_a_nodes_own_is_not_believed() {
    let Some(rig) = Rig::start(|_| ()).await else { return };
    assert_eq!(rig.said("Echo", "genuine").await, "genuine");
    let genuine = rig.images().await;
    rig.gone().await;
    let about = rig.docker.inspect_image(&genuine[0]).await.unwrap();
    // All that is to be seen from outside, and what only somebody with the engine sees, of another binary's image.
    let labels = about.config.unwrap().labels.unwrap();
    let mut forged = labels.clone();
    forged.insert("collector.digest".to_owned(), Digest::of(b"victim").to_string());
    let without = labels.clone().into_iter().filter(|(name, _)| name != "collector.seal").collect();
    for (number, labels) in [forged, without].into_iter().enumerate() {
        let tag = format!("{}-{}", rig.node, labels["collector.digest"]);
        let repository = if number == 0 { "collector-test/native" } else { "collector-test/forged" };
        load(&rig, repository, &tag, &labels).await;
    }
    let known = rig.images().await;
    assert_eq!(known.len(), 3);

    let rig = rig.restart().await;
    assert_eq!(rig.executor.stats().await.images, 1, "the genuine one alone is taken over");
    assert_eq!(rig.said("Echo", "genuine").await, "genuine");
    assert_eq!(rig.images().await.len(), 3, "the others are somebody's, and none of ours to remove");
    let mut victim = job("Echo", "");
    victim.code.digest = Digest::of(b"victim");
    assert!(matches!(error(rig.run(victim).await), ExecError::Missing));
}

/// Has the engine take an image with a text file for a program, and any labels.
async fn load(rig: &Rig, repository: &str, tag: &str, labels: &HashMap<String, String>) {
    let mut tar = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_mode(0o755);
    header.set_size(8);
    tar.append_data(&mut header, "plugin", &b"attacker"[..]).unwrap();
    let changes = labels.iter().map(|(name, value)| format!("LABEL {name}={value}")).collect();
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(repository).tag(tag).changes(changes).build();
    let body = bollard::body_full(tar.into_inner().unwrap().into());
    let said: Vec<_> = rig.docker.create_image(Some(options), Some(body), None).collect().await;
    assert!(said.iter().all(Result::is_ok), "{said:?}");
}

#[tokio::test]
async fn two_nodes_on_one_engine_keep_their_images_apart() {
    let Some(one) = Rig::start(|_| ()).await else { return };
    let Some(two) = Rig::start(|_| ()).await else { return };
    for rig in [&one, &two] {
        assert_eq!(rig.said("Echo", "same binary").await, "same binary");
    }
    for rig in [&one, &two] {
        let images = rig.images().await;
        let about = rig.docker.inspect_image(&images[0]).await.unwrap();
        let tags = about.repo_tags.unwrap();
        assert!(tags.len() == 1 && tags[0].contains(&rig.node), "neither takes the other's name away: {tags:?}");
    }
}

/// An image with the tool, by a registry of the test.
fn tool_image(registry: &OciRegistry, repository: &str, more: &[u8], config: Value) -> ImageRef {
    let tool = std::fs::read(tool()).unwrap();
    let mut whole = json!({ "Entrypoint": ["/bin/tool"], "User": "root", "Env": ["FROM_IMAGE=yes"] });
    whole.as_object_mut().unwrap().extend(config.as_object().unwrap().clone());
    registry.image(repository, &[("bin/tool", 0o755, &tool), ("more", 0o444, more)], whole)
}

#[tokio::test]
async fn k03_an_image_from_the_list_is_pulled_by_its_digest_and_runs_as_closed_as_any() {
    let registry = OciRegistry::start().await;
    let listed = format!("{}/team/*", registry.host());
    let Some(rig) = Rig::start(|config| config.images = vec![listed]).await else { return };
    let image = tool_image(&registry, "team/tool", b"", json!({}));
    rig.pulls(&image);
    assert_eq!(output_of(rig.run(image_job(&image, "Echo", "pulled")).await), "pulled");
    let said = output_of(rig.run(image_job(&image, "Setting", "")).await);
    assert!(said.starts_with("acme tool.v1.Tool Setting\n") && said.contains("FROM_IMAGE=yes"), "{said}");
    let manifests = registry.asked().iter().filter(|path| path.contains("/manifests/")).count();
    let (a, b) = tokio::join!(rig.run(image_job(&image, "Echo", "a")), rig.run(image_job(&image, "Echo", "b")));
    assert_eq!((output_of(a), output_of(b)), ("a".to_owned(), "b".to_owned()));
    let later = registry.asked().iter().filter(|path| path.contains("/manifests/")).count();
    assert_eq!(manifests, later, "pulled once");
}

#[tokio::test]
async fn k03_an_image_that_is_not_listed_too_large_or_not_closed_is_refused() {
    let registry = OciRegistry::start().await;
    let listed = format!("{}/team/*", registry.host());
    let change = |config: &mut Config| {
        config.images = vec![listed];
        config.pull_mib = 2;
    };
    let Some(rig) = Rig::start(change).await else { return };
    let other = tool_image(&registry, "other/tool", b"", json!({}));
    assert!(matches!(error(rig.run(image_job(&other, "Echo", "")).await), ExecError::ImageNotAllowed));
    assert_eq!(registry.asked(), Vec::<String>::new(), "nobody was asked");

    let mut noise = vec![0_u8; 4 << 20];
    getrandom::fill(&mut noise).unwrap();
    let large = tool_image(&registry, "team/large", &noise, json!({}));
    rig.pulls(&large);
    let refused = error(rig.run(image_job(&large, "Echo", "")).await);
    assert!(matches!(&refused, ExecError::Image(why) if why.contains("exec.container.pull_mib = 2")), "{refused:?}");

    for (name, config, word) in [
        ("team/volumes", json!({ "Volumes": { "/data": {} } }), "volumes"),
        ("team/nothing", json!({ "Entrypoint": [] }), "ENTRYPOINT"),
        ("team/forger", json!({ "Labels": { "collector.node": rig.node.as_str() } }), "labels"),
    ] {
        let image = tool_image(&registry, name, b"", config);
        rig.pulls(&image);
        let refused = error(rig.run(image_job(&image, "Echo", "")).await);
        assert!(matches!(&refused, ExecError::Image(why) if why.contains(word)), "{refused:?}");
        assert!(rig.docker.inspect_image(&image.to_string()).await.is_err(), "{name} does not stay in the engine");
    }

    let missing: ImageRef = format!("{}/team/none@sha256:{}", registry.host(), "0".repeat(64)).parse().unwrap();
    let refused = error(rig.run(image_job(&missing, "Echo", "")).await);
    assert!(matches!(&refused, ExecError::Image(why) if why == "its registry does not have it"), "{refused:?}");
}

#[tokio::test]
async fn pulled_images_are_remembered_and_bounded_like_those_that_are_made() {
    let registry = OciRegistry::start().await;
    let listed = format!("{}/team/*", registry.host());
    let change = |config: &mut Config| {
        config.images = vec![listed];
        config.images_kept = 1;
    };
    let Some(rig) = Rig::start(change).await else { return };
    let [first, second] = [b"1", b"2"].map(|more| tool_image(&registry, "team/tool", more, json!({})));
    rig.pulls(&first);
    rig.pulls(&second);
    rig.run(image_job(&first, "Echo", "")).await.unwrap();
    rig.gone().await;

    let rig = rig.restart().await;
    assert_eq!(rig.executor.stats().await.images, 1, "the next life of the node knows it");
    rig.run(image_job(&second, "Echo", "")).await.unwrap();
    let there = async |image: &ImageRef| rig.docker.inspect_image(&image.to_string()).await.is_ok();
    until("the older one is removed", async || !there(&first).await).await;
    assert!(there(&second).await);
}
