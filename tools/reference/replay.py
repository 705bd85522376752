"""A step that `engine train --dump-steps` wrote, computed again."""

import torch
from safetensors import safe_open

from .methods import make
from .net import SPACES, Net
from .philox import teacher_order
from .pretrain import Pretrain


def load(path):
    """Tensors by name, and the metadata."""
    with safe_open(path, "pt") as file:
        return {name: file.get_tensor(name) for name in file.keys()}, file.metadata()


def part(tensors, prefix):
    """The tensors `prefix.*` without the prefix; under "" the tensor of that very name."""
    inside = {n[len(prefix) + 1 :]: t for n, t in tensors.items() if n.startswith(f"{prefix}.")}
    return inside or {"": tensors[prefix]}


def start(dump, meta, velocity=None, space=None, precision="fp32"):
    """The state before a step; `velocity`: the momentum before it, if known. `space` is by default
    that of the dump's preset. Tensors are copied, as a step writes to them."""
    copies = lambda named: {name: w.clone() for name, w in named.items()}
    params = {n: w.requires_grad_() for n, w in copies(part(dump, "before")).items()}
    method = make(meta.get("method", "moco"), meta, dump)
    level = f"c{float(meta.get('dense_level', 5)):.0f}"
    net = Net(
        space or SPACES[meta["preset"]], int(meta["bn_group"]), last_norm=method.last_norm, level=level
    )
    pretrain = Pretrain(
        net, method, params, teacher=copies(part(dump, "teacher_before")),
        **{name: float(meta[name]) for name in ("ema", "lr", "momentum", "weight_decay")},
        decay_exempt=meta.get("decay_exempt") == "true", trust=float(meta.get("trust", 0)),
        accum=int(meta.get("accum", 1)), precision=precision,
    )  # fmt: skip
    for name, v in copies(velocity or {}).items():
        pretrain.optimizer.state[params[name]] = {"momentum_buffer": v}
    return pretrain


def views_of(dump):
    """The views by number."""
    if "x_student" in dump:
        return [dump["x_student"], dump["x_teacher"]]
    return [dump[f"view.{v}"] for v in range(sum(name.startswith("view.") for name in dump))]


def numbered(name, v, count):
    return name if count == 1 else f"{name}.{v}"


def step(pretrain, dump, meta):
    """What the step makes, by kind and name. Students are compared with the dump's teacher, if it has
    one, so that the teacher's errors are not counted twice."""
    params, method, views = pretrain.params, pretrain.method, views_of(dump)
    pretrain.move_teacher()
    made, seen = {"teacher_after": pretrain.teacher}, []
    for b, v in enumerate(method.teacher_views):
        order = teacher_order(int(meta["seed"]), int(meta["step"]), len(views[v]), b)
        outputs = pretrain.teacher_pass(views[v], order)
        name = numbered("z_teacher", b, len(method.teacher_views))
        made[name] = {"": outputs["z"]}
        seen.append(outputs | {"z": dump.get(name, outputs["z"])})
    with torch.no_grad():
        targets = method.prepare(seen)
    for k, arch in enumerate(meta["archs"].split(",")):
        total = 0
        for turn in range(len(method.passes)):
            out, loss = pretrain.student_pass(arch, turn, views, targets)
            loss.backward()
            total += loss.detach()
            name = numbered(f"z_student.{k}", turn, len(method.passes))
            made[name] = {"": out[0].get("p", out[0]["z"]).detach()}
        made[f"loss.{k}"] = {"": total.reshape(1)}
    for w in params.values():
        if w.grad is None:  # no student uses it; weight decay and momentum move it all the same
            w.grad = torch.zeros_like(w)
    made["grad"] = {name: w.grad for name, w in params.items()}
    if pretrain.optimizer.state:
        pretrain.update()
        state = pretrain.optimizer.state
        made["after"] = {name: w.detach() for name, w in params.items()}
        made["momentum"] = {name: state[w]["momentum_buffer"] for name, w in params.items()}
    else:
        momentum, lr = part(dump, "momentum"), float(meta["lr"])
        made["after"] = {name: w.detach() - lr * momentum[name] for name, w in params.items()}
    method.finish_step(targets)
    return made


def replay(dump, meta, velocity=None, dtype=torch.float64, precision="fp32"):
    """What a dumped step should have made."""
    cast = lambda named: {name: t.to(dtype) for name, t in named.items()}
    dump = cast(dump)
    return step(start(dump, meta, velocity and cast(velocity), precision=precision), dump, meta)
