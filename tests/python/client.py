"""A client in another language, generated from the protos: what an integration does in a day.

Usage: client.py GENERATED HOST:PORT IDENTITY LISTEN SERVER...
LISTEN is the address of a virtual service to make, each SERVER an ADDRESS:PORT behind it.
"""

import sys

sys.path.insert(0, sys.argv[1])

import grpc  # noqa: E402
from google.protobuf import duration_pb2, field_mask_pb2  # noqa: E402
from google.rpc import error_details_pb2  # noqa: E402
from grpc_status import rpc_status  # noqa: E402

from gantry.v1 import (  # noqa: E402
    balancer_pb2,
    balancer_pb2_grpc,
    config_pb2,
    config_pb2_grpc,
    health_check_pb2,
    observe_pb2,
    observe_pb2_grpc,
)

NAME = "clusters/main/virtualServices/pacs"


def connect(host, identity):
    def read(file):
        with open(f"{identity}/{file}", "rb") as content:
            return content.read()

    credentials = grpc.ssl_channel_credentials(
        root_certificates=read("ca.pem"),
        private_key=read("key.pem"),
        certificate_chain=read("certificate.pem"),
    )
    # The name that every controller's certificate has, whatever its address is.
    options = [("grpc.ssl_target_name_override", "gantry-controller")]
    return grpc.secure_channel(host, credentials, options)


def endpoint(text):
    address, port = text.rsplit(":", 1)
    return balancer_pb2.Endpoint(address=address, port=int(port))


def service(listen):
    at = endpoint(listen)
    return balancer_pb2.VirtualService(
        display_name="DICOM-Store",
        listener=balancer_pb2.Listener(address=at.address, ports=[str(at.port)]),
        layer7=balancer_pb2.Layer7(),
        health_check=health_check_pb2.HealthCheck(
            interval=duration_pb2.Duration(nanos=200_000_000),
            timeout=duration_pb2.Duration(seconds=1),
            tcp_connect=health_check_pb2.HealthCheck.TcpConnect(),
        ),
    )


def create(balancer, listen, servers):
    request = balancer_pb2.CreateVirtualServiceRequest(
        virtual_service_id="pacs",
        virtual_service=service(listen),
        real_servers=[
            balancer_pb2.RealServer(name=f"pacs{at}", endpoint=endpoint(text))
            for at, text in enumerate(servers, 1)
        ],
        comment="made in Python",
    )
    made = balancer.CreateVirtualService(request)
    assert made.name == NAME, made
    return made


def read_violations(balancer):
    bad = balancer_pb2.VirtualService(
        listener=balancer_pb2.Listener(address="10.1.0", ports=["0"]),
        layer7=balancer_pb2.Layer7(),
    )
    request = balancer_pb2.CreateVirtualServiceRequest(
        virtual_service_id="bad", virtual_service=bad
    )
    try:
        balancer.CreateVirtualService(request)
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.INVALID_ARGUMENT, error
        found = error_details_pb2.BadRequest()
        for detail in rpc_status.from_call(error).details:
            if detail.Is(found.DESCRIPTOR):
                detail.Unpack(found)
        return [violation.field for violation in found.field_violations]
    raise AssertionError("a bad address was taken")


def update(balancer, etag, seconds):
    changed = balancer_pb2.VirtualService(
        name=NAME,
        etag=etag,
        persistence=balancer_pb2.Persistence(timeout=duration_pb2.Duration(seconds=seconds)),
    )
    mask = field_mask_pb2.FieldMask(paths=["persistence.timeout"])
    request = balancer_pb2.UpdateVirtualServiceRequest(virtual_service=changed, update_mask=mask)
    return balancer.UpdateVirtualService(request)


def watch_until(observe, wanted):
    request = observe_pb2.WatchOverviewRequest(
        min_interval=duration_pb2.Duration(nanos=100_000_000)
    )
    stream = observe.WatchOverview(request, timeout=50)
    for overview in stream:
        servers = [server for row in overview.rows for server in row.real_servers]
        if wanted({server.name.rsplit("/", 1)[1]: server for server in servers}):
            stream.cancel()
            return
    raise AssertionError("the overview ended")


def plan_apply_and_go_back(config):
    before = config.ExportConfig(config_pb2.ExportConfigRequest())
    document = config_pb2.Config()
    document.CopyFrom(before)
    del document.services[0].real_servers[1:]
    plan = config.PlanConfig(config_pb2.PlanConfigRequest(config=document))
    assert [(change.action, change.name) for change in plan.changes] == [
        (config_pb2.Change.DELETE, f"{NAME}/realServers/pacs2")
    ], plan
    request = config_pb2.ApplyConfigRequest(
        config=document, base_etag=plan.base_etag, comment="one is enough"
    )
    applied = config.ApplyConfig(request)
    history = config.ListRevisions(config_pb2.ListRevisionsRequest(page_size=2)).revisions
    assert history[0].name == f"revisions/{applied.revision}", history
    back = history[1].name.removeprefix("revisions/")
    config.RollbackConfig(config_pb2.RollbackConfigRequest(revision=back, comment="two after all"))
    after = config.ExportConfig(config_pb2.ExportConfigRequest())
    assert after.services == before.services, after


def main(host, identity, listen, servers):
    with connect(host, identity) as channel:
        balancer = balancer_pb2_grpc.BalancerServiceStub(channel)
        observe = observe_pb2_grpc.ObserveServiceStub(channel)
        config = config_pb2_grpc.ConfigServiceStub(channel)

        made = create(balancer, listen, servers)
        listed = balancer.ListVirtualServices(balancer_pb2.ListVirtualServicesRequest())
        assert [entry.name for entry in listed.virtual_services] == [NAME], listed
        print("created and listed")

        fields = read_violations(balancer)
        assert fields == [
            "virtual_service.listener.address",
            "virtual_service.listener.ports[0]",
        ], fields
        print("violations read")

        changed = update(balancer, made.etag, 600)
        assert changed.persistence.timeout.seconds == 600, changed
        try:
            update(balancer, made.etag, 900)
        except grpc.RpcError as error:
            assert error.code() == grpc.StatusCode.ABORTED, error
        else:
            raise AssertionError("a stale etag was taken")
        print("updated, and a stale etag refused")

        serving = balancer_pb2.RealServerStatus.SERVING
        watch_until(observe, lambda found: all(s.status.state == serving for s in found.values()))
        name = f"{NAME}/realServers/pacs1"
        balancer.DrainRealServer(balancer_pb2.DrainRealServerRequest(name=name))
        draining = balancer_pb2.RealServerStatus.DRAINING
        watch_until(observe, lambda found: found["pacs1"].status.state == draining)
        balancer.OnlineRealServer(balancer_pb2.OnlineRealServerRequest(name=name))
        print("drained, and seen in the overview")

        plan_apply_and_go_back(config)
        print("planned, applied and rolled back")


if __name__ == "__main__":
    main(sys.argv[2], sys.argv[3], sys.argv[4], sys.argv[5:])
