{{/* Name of the chart, or what takes its place. */}}
{{- define "sandbox-manager.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{/* Name of all objects: a label of DNS, since it is a Service's, too. */}}
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

{{/* Name of objects that belong to the cluster: two releases of one name in two namespaces must not meet. */}}
{{- define "sandbox-manager.clusterName" -}}
{{- $name := include "sandbox-manager.fullname" . }}
{{- if eq $name .Release.Namespace }}
{{- $name }}
{{- else }}
{{- printf "%s-%s" .Release.Namespace $name }}
{{- end }}
{{- end }}

{{/* Labels that select the pods. They never change. */}}
{{- define "sandbox-manager.selectorLabels" -}}
app.kubernetes.io/name: {{ include "sandbox-manager.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{/* Labels of every object. */}}
{{- define "sandbox-manager.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-" }}
{{ include "sandbox-manager.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* The same and more, of which none takes the place of the chart's. Takes (dict "chart" . "more" MAP). */}}
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

{{/* Port of an address of the options; nothing where it is switched off. Takes (dict "field" NAME "address" TEXT). */}}
{{- define "sandbox-manager.port" -}}
{{- if ne .address "0" }}
{{- $port := regexFind "[0-9]+$" .address | int }}
{{- if not $port }}
{{- fail (printf "%s: port 0 takes a free port, which neither probes nor Services would find" .field) }}
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

{{/* A duration of the options in seconds, rounded up. */}}
{{- define "sandbox-manager.seconds" -}}
{{- $scale := dict "h" 3600.0 "m" 60.0 "s" 1.0 "ms" 0.001 "us" 0.000001 "µs" 0.000001 "μs" 0.000001 "ns" 0.000000001 }}
{{- $seconds := 0.0 }}
{{- range regexFindAll "[0-9.]+(ms|us|µs|μs|ns|h|m|s)" . -1 }}
{{- $number := regexFind "^[0-9.]+" . }}
{{- $seconds = addf $seconds (mulf (float64 $number) (get $scale (trimPrefix $number .))) }}
{{- end }}
{{- ceil $seconds | int64 }}
{{- end }}

{{/* What the schema cannot say, said before anything is rendered. */}}
{{- define "sandbox-manager.check" -}}
{{- $health := dig "health" "bindAddress" "" .Values.config }}
{{- if regexMatch "^(localhost|127[.][0-9.]+|\\[::1\\]):" $health }}
{{- fail (printf "config.health.bindAddress: the kubelet cannot reach %q, and would restart the pod for ever; use 0.0.0.0, or \"0\" for no probes" $health) }}
{{- end }}
{{- $metricsPort := include "sandbox-manager.metricsPort" . }}
{{- if and $metricsPort (eq $metricsPort (include "sandbox-manager.healthPort" .)) }}
{{- fail (printf "config.health.bindAddress: port %s is that of config.metrics.bindAddress" $metricsPort) }}
{{- end }}
{{- if and .Values.serviceMonitor.enabled (not $metricsPort) }}
{{- fail "serviceMonitor.enabled: there is nothing to scrape, since config.metrics.bindAddress is \"0\"" }}
{{- end }}
{{- range .Values.extraEnv }}
{{- if hasPrefix "SANDBOX_MANAGER_" .name }}
{{- fail (printf "extraEnv: %s would go before the configuration, from which permissions and ports follow; set it in config" .name) }}
{{- end }}
{{- end }}
{{- end }}
