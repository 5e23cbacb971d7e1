"""On a Ray cluster: seats on two replicas, a queue, a replica that is killed, a new version while somebody plays."""

from __future__ import annotations

import logging
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import psutil
import pytest

from scope_play.cli import main
from scope_play.errors import ScopeError
from scope_play.loading.request import LoadRequest
from scope_play.recording.clip import frame_hash
from scope_play.serve.cluster.plan import Plan, read_plan, read_replicas
from scope_play.serve.config import TOKEN_VARIABLE, ServeConfig
from scope_play.wire import messages
from scope_play.wire.world import RemoteSession, RemoteWorld
from scope_play.world import open_world
from tests.helpers.serving import LIMIT, TOKEN, Raw

MODEL = LoadRequest("nano-96x160", device="cpu")
PLAN = Plan(MODEL, ServeConfig(seats=2, hold=1.0, drain=60.0), least=2, most=2)


@pytest.fixture(scope="module")
def cluster() -> Iterator[SimpleNamespace]:
    """The app on a cluster of its own: its `port`, and `deploy` for another version of it."""
    ray, serve = pytest.importorskip("ray"), pytest.importorskip("ray.serve")
    import socket

    from scope_play.serve.cluster.deploy import application

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    ray.init(address="local", num_cpus=8, include_dashboard=False, log_to_driver=False, object_store_memory=200 << 20)
    try:
        logging.getLogger("ray.serve").setLevel(logging.WARNING)
        serve.start(proxy_location="HeadOnly", http_options={"host": "127.0.0.1", "port": port})

        def deploy() -> None:
            serve.run(application(PLAN, TOKEN), name="scope-play", route_prefix="/")

        deploy()
        yield SimpleNamespace(port=port, deploy=deploy, url=f"http://127.0.0.1:{port}/#{TOKEN}")
    finally:
        serve.shutdown()
        ray.shutdown()


@pytest.fixture(scope="module")
def alone() -> Any:
    return open_world(MODEL)


def replicas() -> list[psutil.Process]:
    """Processes of the seats."""
    return [each for each in psutil.Process().children(recursive=True) if _is_seats(each)]


def _is_seats(process: psutil.Process) -> bool:
    try:
        return any("ServeReplica" in part and ":seats" in part for part in process.cmdline())
    except psutil.Error:
        return False


def worked(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


def rows(number: int) -> np.ndarray:
    return np.random.default_rng(number).integers(0, 2, (4, 10)).astype(np.float32)


def same(far: RemoteSession, near: Any, first: int, last: int) -> None:
    for number in range(first, last + 1):
        found, wanted = far.step(rows(number)).frames, near.step(rows(number)).frames
        assert [frame_hash(frame) for frame in found] == [frame_hash(frame) for frame in wanted], number


@pytest.mark.ray
def test_four_seats_on_two_replicas_and_a_queue(cluster: SimpleNamespace) -> None:
    seated = []
    for _ in range(4):
        raw = Raw(cluster).hello()
        assert raw.until(messages.Welcome).model == "nano-96x160"
        seated.append(raw)
    fifth = Raw(cluster).hello()
    assert fifth.until(messages.Queue).place == 1
    sixth = Raw(cluster).hello()
    assert sixth.until(messages.Queue).place == 2
    seated.pop().close()
    fifth.until(messages.Welcome)
    assert sixth.until(messages.Queue).place == 1
    for raw in (*seated, fifth, sixth):
        raw.close()


@pytest.mark.ray
def test_a_killed_replica_s_game_goes_on_at_another(cluster: SimpleNamespace, alone: Any) -> None:
    with RemoteWorld(cluster.url) as world, world.start(seed=3) as session:
        before = {process: worked(process) for process in replicas()}
        assert len(before) == 2
        near = alone.start(seed=3)
        same(session, near, 1, 5)
        busy = max(before, key=lambda process: worked(process) - before[process])
        busy.kill()
        same(session, near, 6, 10)
        moment = session.snapshot()
        there = near.snapshot()
        same(session, near, 11, 12)
        session.restore(moment)
        near.restore(there)
        same(session, near, 13, 14)


@pytest.mark.ray
def test_a_new_version_waits_for_who_plays(cluster: SimpleNamespace, alone: Any) -> None:
    wait_for(lambda: len(replicas()) == 2)
    old = set(replicas())
    deploying = threading.Thread(target=cluster.deploy)
    with RemoteWorld(cluster.url) as world, world.start(seed=4) as session:
        near = alone.start(seed=4)
        same(session, near, 1, 2)
        deploying.start()
        wait_for(lambda: set(replicas()) - old)
        same(session, near, 3, 6)
        late = Raw(cluster).hello()
        late.until(messages.Welcome)
        late.close()
        same(session, near, 7, 8)
        assert old & set(replicas()), "the one that is played on stays"
        assert deploying.is_alive(), "what is deployed waits for the old version's players"
    deploying.join(3 * LIMIT)
    assert not deploying.is_alive()
    wait_for(lambda: not old & set(replicas()))


def wait_for(holds: Any) -> None:
    end = time.monotonic() + 3 * LIMIT
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.1)


def test_without_ray_it_is_a_sentence_and_nobody_else_imports_it(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in [name for name in sys.modules if name.startswith("scope_play.serve.cluster.")]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "ray", None)
    assert main(["serve", "--ray"]) == 2
    assert "pip install 'scope-play[ray]'" in capsys.readouterr().err
    assert main(["serve", "--replicas", "2"]) == 2
    assert "needs --ray" in capsys.readouterr().err
    looked = "import sys, scope_play.serve.run, scope_play.commands.serve; sys.exit('ray' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", looked], check=False).returncode == 0


def test_args_of_an_application_are_read_strictly() -> None:
    plan = read_plan({"model": "scope", "seats": 3, "replicas": "1-20", "load": {"steps": 4, "decoder": "tiny"}})
    assert plan.request == LoadRequest("scope", steps=4, decoder="tiny")
    assert (plan.least, plan.most, plan.gpus, plan.config.seats) == (1, 20, 1.0, 3)
    for wrong in ({"seat": 3}, {"seats": "3"}, {"seats": 0}, {"load": {"step": 4}}, {"replicas": "0"}):
        with pytest.raises(ScopeError):
            read_plan(wrong)
    for text in ("", "-1", "3-2", "1-", "9999999", "1 - 2"):
        with pytest.raises(ScopeError, match="replicas"):
            read_replicas(text)


@pytest.mark.ray
@pytest.mark.parametrize("name", ["serve.yaml", "kuberay.yaml"])
def test_examples_are_what_ray_serve_and_the_app_read(name: str) -> None:
    import yaml
    from ray.serve import Application
    from ray.serve.schema import ServeDeploySchema

    from scope_play.serve.cluster.deploy import build

    text = (Path(__file__).parents[2] / "assets" / "ray" / name).read_text("utf-8")
    config = yaml.safe_load(text)
    if name == "kuberay.yaml":
        groups = [config["spec"]["rayClusterConfig"]["headGroupSpec"]]
        groups += config["spec"]["rayClusterConfig"]["workerGroupSpecs"]
        for group in groups:
            (container,) = group["template"]["spec"]["containers"]
            assert container["env"][0]["name"] == TOKEN_VARIABLE
        config = yaml.safe_load(config["spec"]["serveConfigV2"])
    (found,) = ServeDeploySchema.model_validate(config).applications
    assert found.import_path == "scope_play.serve.cluster.deploy:build"
    assert isinstance(build(found.args), Application)
