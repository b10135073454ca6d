{{/* The name of the chart. The value nameOverride overrides it. */}}
{{- define "sandbox-manager.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* The name of all objects. At most 63 characters, because the name of a Service is a DNS label. */}}
{{- define "sandbox-manager.fullname" -}}
{{- $name := include "sandbox-manager.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{/* The name of the roles and bindings. Contains the namespace, because two releases in two namespaces may have one name. */}}
{{- define "sandbox-manager.clusterName" -}}
{{- $name := include "sandbox-manager.fullname" . }}
{{- if eq $name .Release.Namespace }}
{{- $name }}
{{- else }}
{{- printf "%s-%s" .Release.Namespace $name }}
{{- end }}
{{- end }}

{{/* The labels that select the pods. These labels never change, because the selector of a Deployment is immutable. */}}
{{- define "sandbox-manager.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sandbox-manager.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{/* The labels that the chart itself gives every object. */}}
{{- define "sandbox-manager.ownLabels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" | quote }}
{{ include "sandbox-manager.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service | quote }}
{{- end }}

{{/* The labels of every object. The chart's labels override commonLabels. */}}
{{- define "sandbox-manager.labels" -}}
{{- merge (include "sandbox-manager.ownLabels" . | fromYaml) (default dict .Values.commonLabels) | toYaml }}
{{- end }}

{{/* The labels of every object and more labels. The chart's labels override the others. Argument: (dict "chart" . "more" MAP). */}}
{{- define "sandbox-manager.labelsAnd" -}}
{{- merge (include "sandbox-manager.labels" .chart | fromYaml) (default dict .more) | toYaml }}
{{- end }}

{{/* The label app.kubernetes.io/name of the pod of `helm test`, which neither the Service nor the budget selects. */}}
{{- define "sandbox-manager.testName" -}}
{{- include "sandbox-manager.name" . | trunc 58 | printf "%s-test" }}
{{- end }}

{{- define "sandbox-manager.serviceAccountName" -}}
{{- default (include "sandbox-manager.fullname" .) (default dict .Values.serviceAccount).name }}
{{- end }}

{{- define "sandbox-manager.image" -}}
{{- $image := default dict .Values.image }}
{{- $repository := default "sandbox-manager" $image.repository }}
{{- if not (or $image.registry (contains "/" $repository)) }}
{{- fail "image.registry: set the registry to which you have pushed the image, such as registry.example.com; for an image that is only on the nodes, set image.repository: library/sandbox-manager" }}
{{- end }}
{{- with $image.registry }}{{ . }}/{{ end }}
{{- $repository }}:{{ default .Chart.AppVersion $image.tag }}
{{- with $image.digest }}@{{ . }}{{ end }}
{{- end }}

{{/* A map without its empty fields, at every depth. Argument: the map. */}}
{{- define "sandbox-manager.withoutEmpty" -}}
{{- $kept := dict }}
{{- range $name, $value := . }}
{{- if kindIs "map" $value }}
{{- $_ := set $kept $name (include "sandbox-manager.withoutEmpty" $value | fromYaml) }}
{{- else if not (kindIs "invalid" $value) }}
{{- $_ := set $kept $name $value }}
{{- end }}
{{- end }}
{{- toYaml $kept }}
{{- end }}

{{/* The options. An empty section or field (`config:`, `metrics: null`) stands for its defaults, as in the binary. */}}
{{- define "sandbox-manager.config" -}}
{{- include "sandbox-manager.withoutEmpty" (default dict .Values.config) }}
{{- end }}

{{/* The options file of the process. */}}
{{- define "sandbox-manager.optionsFile" -}}
{{- $header := dict "apiVersion" "config.agents.kruise.io/v1alpha1" "kind" "SandboxManagerOptions" }}
{{- merge $header (include "sandbox-manager.config" . | fromYaml) | toYaml }}
{{- end }}

{{/* The port of an address in the options. Empty if the listener is disabled. Argument: (dict "field" NAME "address" TEXT). */}}
{{- define "sandbox-manager.port" -}}
{{- if ne .address "0" }}
{{- $port := regexFind "[0-9]+$" .address | int }}
{{- if not $port }}
{{- fail (printf "%s: port 0 binds a free port, which probes and Services cannot know" .field) }}
{{- end }}
{{- $port }}
{{- end }}
{{- end }}

{{- define "sandbox-manager.metricsPort" -}}
{{- include "sandbox-manager.port" (dict "field" "config.metrics.bindAddress" "address" (dig "metrics" "bindAddress" ":8080" (include "sandbox-manager.config" . | fromYaml))) }}
{{- end }}

{{- define "sandbox-manager.healthPort" -}}
{{- include "sandbox-manager.port" (dict "field" "config.health.bindAddress" "address" (dig "health" "bindAddress" ":8081" (include "sandbox-manager.config" . | fromYaml))) }}
{{- end }}

{{- define "sandbox-manager.loopback" -}}
^(localhost|127[.][0-9.]+|\[::1\]):
{{- end }}

{{/* The port of the E2B API that others can reach: empty if the API is disabled or listens on a loopback address. */}}
{{- define "sandbox-manager.e2bPort" -}}
{{- $e2b := dig "e2b" (dict) (include "sandbox-manager.config" . | fromYaml) }}
{{- $address := default ":8082" $e2b.bindAddress }}
{{- if and $e2b.enabled (not (regexMatch (include "sandbox-manager.loopback" .) $address)) }}
{{- include "sandbox-manager.port" (dict "field" "config.e2b.bindAddress" "address" $address) }}
{{- end }}
{{- end }}

{{/* The name of the Service of the E2B API, which is a DNS label. */}}
{{- define "sandbox-manager.e2bName" -}}
{{- include "sandbox-manager.fullname" . | trunc 59 | trimSuffix "-" | printf "%s-e2b" }}
{{- end }}

{{/* The port of the Service of the E2B API. */}}
{{- define "sandbox-manager.e2bServicePort" -}}
{{- default 80 (default dict (default dict .Values.e2b).service).port }}
{{- end }}

{{/* The seconds of a duration in the options, rounded up. */}}
{{- define "sandbox-manager.seconds" -}}
{{- $scale := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.000001 "µs" 0.000001 "μs" 0.000001 "ns" 0.000000001 }}
{{- $seconds := 0.0 }}
{{- range regexFindAll "[0-9.]+(ms|us|µs|μs|ns|h|m|s)" . -1 }}
{{- $number := regexFind "^[0-9.]+" . }}
{{- $seconds = addf $seconds (mulf (float64 $number) (get $scale (trimPrefix $number .))) }}
{{- end }}
{{- ceil $seconds | int64 }}
{{- end }}

{{/* The flags of options from which the chart derives permissions, ports or times. A test compares them with the options. */}}
{{- define "sandbox-manager.derivedFlags" -}}
cache-persistent-volumes config e2b-auth e2b-bind-address e2b-enabled e2b-first-key-team e2b-init-runtime
e2b-tls-cert-file health-probe-bind-address leader-elect leader-elect-resource-name leader-elect-resource-namespace
lifecycle-enabled lifecycle-init-runtime metrics-bind-address sandbox-label-selector sandbox-namespace shutdown-grace-period system-namespace
{{- end }}

{{/* Rejects values that contradict each other, which values.schema.json cannot express. */}}
{{- define "sandbox-manager.check" -}}
{{- $config := include "sandbox-manager.config" . | fromYaml }}
{{- $health := dig "health" "bindAddress" "" $config }}
{{- if regexMatch (include "sandbox-manager.loopback" .) $health }}
{{- fail (printf "config.health.bindAddress: the kubelet cannot connect to %q and would restart the pod again and again; use 0.0.0.0, or \"0\" to have no probes" $health) }}
{{- end }}
{{- $metricsPort := include "sandbox-manager.metricsPort" . }}
{{- if and $metricsPort (eq $metricsPort (include "sandbox-manager.healthPort" .)) }}
{{- fail (printf "config.health.bindAddress: port %s is the port of config.metrics.bindAddress" $metricsPort) }}
{{- end }}
{{- if and (default dict .Values.serviceMonitor).enabled (not $metricsPort) }}
{{- fail "serviceMonitor.enabled: there are no metrics to scrape, because config.metrics.bindAddress is \"0\"" }}
{{- end }}
{{- include "sandbox-manager.checkE2b" . }}
{{- $recreate := eq (default "" (default dict .Values.strategy).type) "Recreate" }}
{{- if and (dig "lifecycle" "enabled" false $config) (not (dig "leaderElection" "enabled" false $config)) }}
{{- if not (and $recreate (le (int (include "sandbox-manager.replicas" .)) 1)) }}
{{- fail "config.lifecycle.enabled: set config.leaderElection.enabled too, because two pods run during a rolling update and both would create sandboxes (or run one pod with strategy.type: Recreate)" }}
{{- end }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "SANDBOX_MANAGER_" .name }}
{{- fail (printf "extraEnv: %s would override config, from which the chart derives permissions and ports; set the option in config" .name) }}
{{- end }}
{{- end }}
{{- $derived := include "sandbox-manager.derivedFlags" . | replace "\n" " " | splitList " " }}
{{- range .Values.extraArgs }}
{{- $flag := . | trimPrefix "--" | splitList "=" | first }}
{{- if and (hasPrefix "--" .) (has $flag $derived) }}
{{- fail (printf "extraArgs: --%s would override config, from which the chart derives permissions and ports; set the option in config" $flag) }}
{{- end }}
{{- end }}
{{- end }}

{{/* Rejects values of the E2B API that contradict each other. The binary rejects the first two as well, but only in the pod. */}}
{{- define "sandbox-manager.checkE2b" -}}
{{- $config := include "sandbox-manager.config" . | fromYaml }}
{{- $e2b := dig "e2b" (dict) $config }}
{{- $port := include "sandbox-manager.e2bPort" . }}
{{- if $e2b.enabled }}
{{- $auth := default "secret" $e2b.auth }}
{{- if and (eq $auth "secret") (not $config.systemNamespace) }}
{{- fail "config.e2b.enabled: set config.systemNamespace, the namespace of the Secret with the API keys" }}
{{- end }}
{{- if and (eq $auth "none") $port (not $e2b.allowUnauthenticated) }}
{{- fail "config.e2b.auth: without keys everybody who reaches the pod could use every sandbox; set config.e2b.allowUnauthenticated to allow that" }}
{{- end }}
{{- if contains "--" (default "" $e2b.firstKeyTeam) }}
{{- fail "config.e2b.firstKeyTeam: expected admin, or the name of a namespace without --" }}
{{- end }}
{{- if ne (empty (dig "tls" "certFile" "" $e2b)) (empty (dig "tls" "keyFile" "" $e2b)) }}
{{- fail "config.e2b.tls: set both certFile and keyFile, or neither" }}
{{- end }}
{{- end }}
{{- if $port }}
{{- range $listener := list "metrics" "health" }}
{{- if eq $port (include (printf "sandbox-manager.%sPort" $listener) $) }}
{{- fail (printf "config.e2b.bindAddress: port %s is the port of config.%s.bindAddress" $port $listener) }}
{{- end }}
{{- end }}
{{- else }}
{{- range $way := list "ingress" "httpRoute" }}
{{- if (default dict (get (default dict $.Values.e2b) $way)).enabled }}
{{- fail (printf "e2b.%s.enabled: there is nothing to reach, because config.e2b.enabled is off or config.e2b.bindAddress is \"0\" or a loopback address" $way) }}
{{- end }}
{{- end }}
{{- end }}
{{- end }}

{{/* The number of pods: 0 is a number, an empty value stands for the default. */}}
{{- define "sandbox-manager.replicas" -}}
{{- if kindIs "invalid" .Values.replicas }}1{{ else }}{{ .Values.replicas }}{{ end }}
{{- end }}
