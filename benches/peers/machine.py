"""What machine this is, and what stands on it."""

import datetime
import os
import pathlib
import platform
import subprocess

GPU = ("name", "driver_version", "clocks.sm", "clocks.max.sm", "clocks.mem", "power.limit", "temperature.gpu")


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
        line = output("nvidia-smi", f"--query-gpu={','.join(GPU)}", "--format=csv,noheader", "--id=0")
        found["gpu"], found["nvidia-smi"] = line.split(",")[0], dict(zip(GPU, map(str.strip, line.split(","))))
    return found


def sentence(facts):
    gpu = facts.get("nvidia-smi", {})
    where = f"{facts['gpu']}, driver {gpu.get('driver_version')}; " if gpu else ""
    busy = facts["load"] > 0.5
    load = f" The machine was busy (load {facts['load']} at the start): believe nothing." if busy else ""
    return (
        f"{facts['date']}; {where}{facts['processor']}, {facts['threads']} threads a side; "
        f"{facts['engine']} ({facts['commit'] or 'no commit'}), PyTorch {facts['torch']}.{load}"
    )
