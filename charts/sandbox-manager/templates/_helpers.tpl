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
app.kubernetes.io/name: {{ include "sandbox-manager.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* The labels of every object. */}}
{{- define "sandbox-manager.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "sandbox-manager.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The labels of every object and more labels. The chart's labels override the others. Argument: (dict "chart" . "more" MAP). */}}
{{- define "sandbox-manager.labelsAnd" -}}
{{- merge (include "sandbox-manager.labels" .chart | fromYaml) .more | toYaml }}
{{- end }}

{{- define "sandbox-manager.serviceAccountName" -}}
{{- default (include "sandbox-manager.fullname" .) .Values.serviceAccount.name }}
{{- end }}

{{- define "sandbox-manager.image" -}}
{{- with .Values.image }}
{{- with .registry }}{{ . }}/{{ end }}
{{- .repository }}:{{ default $.Chart.AppVersion .tag }}
{{- with .digest }}@{{ . }}{{ end }}
{{- end }}
{{- end }}

{{/* The options file of the process. */}}
{{- define "sandbox-manager.optionsFile" -}}
{{- $header := dict "apiVersion" "config.agents.kruise.io/v1alpha1" "kind" "SandboxManagerOptions" }}
{{- merge $header .Values.config | toYaml }}
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
{{- include "sandbox-manager.port" (dict "field" "config.metrics.bindAddress" "address" (dig "metrics" "bindAddress" "0.0.0.0:8080" .Values.config)) }}
{{- end }}

{{- define "sandbox-manager.healthPort" -}}
{{- include "sandbox-manager.port" (dict "field" "config.health.bindAddress" "address" (dig "health" "bindAddress" "0.0.0.0:8081" .Values.config)) }}
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

{{/* Rejects values that contradict each other, which values.schema.json cannot express. */}}
{{- define "sandbox-manager.check" -}}
{{- $health := dig "health" "bindAddress" "" .Values.config }}
{{- if regexMatch "^(localhost|127[.][0-9.]+|\\[::1\\]):" $health }}
{{- fail (printf "config.health.bindAddress: the kubelet cannot connect to %q and would restart the pod again and again; use 0.0.0.0, or \"0\" to have no probes" $health) }}
{{- end }}
{{- $metricsPort := include "sandbox-manager.metricsPort" . }}
{{- if and $metricsPort (eq $metricsPort (include "sandbox-manager.healthPort" .)) }}
{{- fail (printf "config.health.bindAddress: port %s is the port of config.metrics.bindAddress" $metricsPort) }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not $metricsPort) }}
{{- fail "serviceMonitor.enabled: there are no metrics to scrape, because config.metrics.bindAddress is \"0\"" }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "SANDBOX_MANAGER_" .name }}
{{- fail (printf "extraEnv: %s would override config, from which the chart derives permissions and ports; set the option in config" .name) }}
{{- end }}
{{- end }}
{{- end }}
