"""What machine this is, and what stands on it."""

import datetime
import os
import pathlib
import platform
import subprocess

GPU = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit")


def output(*command):
    """What a command prints; nothing where it is not there or fails."""
    try:
        done = subprocess.run([str(c) for c in command], capture_output=True, text=True)
    except OSError:
        return ""
    return done.stdout.strip() if done.returncode == 0 else ""


def processor():
    info = pathlib.Path("/proc/cpuinfo")
    lines = info.read_text().splitlines() if info.exists() else []
    names = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return f"{len(names)} x {names[0]}" if names else platform.processor()


def facts(device, bin):
    found = {
        "date": datetime.datetime.now(datetime.timezone.utc).strftime("%Y-%m-%d %H:%M UTC"),
        "processor": processor(),
        "load": round(os.getloadavg()[0], 1),
        "system": platform.platform(),
        "python": platform.python_version(),
        "engine": output(pathlib.Path(bin) / "engine", "--version"),
        "commit": output("git", "-C", pathlib.Path(__file__).parent, "rev-parse", "--short", "HEAD"),
    }
    if device == "cuda":
        query = f"--query-gpu={','.join(GPU)}"
        line = output("nvidia-smi", query, "--format=csv,noheader", "--id=0")
        found["gpu"] = dict(zip(GPU, map(str.strip, line.split(","))))
    return found


def sentence(facts):
    gpu = facts.get("gpu")
    where = f"{gpu['name']}, driver {gpu.get('driver_version', 'unknown')}; " if gpu else ""
    load = ""
    if facts["load"] > 0.5:
        load = f" The machine was busy (load {facts['load']} at the start): believe nothing."
    # `--version` names the commit already, unless the binary was built elsewhere.
    is_named = not facts["commit"] or facts["commit"] in facts["engine"]
    commit = "" if is_named else f" ({facts['commit']})"
    return (
        f"{facts['date']}; {where}{facts['processor']}; threads a side: {facts['threads']}; "
        f"{facts['engine']}{commit}, PyTorch {facts['torch'] or 'did not run'}.{load}"
    )
