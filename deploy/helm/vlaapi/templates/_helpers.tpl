{{- define "vlaapi.name" -}}
{{- if contains "vlaapi" .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-vlaapi" .Release.Name | trunc 40 | trimSuffix "-" }}{{ end }}
{{- end }}

{{- define "vlaapi.selector" -}}
app.kubernetes.io/name: vlaapi
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .component }}
{{- end }}

{{- define "vlaapi.labels" -}}
{{ include "vlaapi.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .root.Chart.Name .root.Chart.Version }}
{{- end }}

{{- /* A tag that can be moved is refused by the schema unless it is given on purpose; a digest wins. */ -}}
{{- define "vlaapi.image" -}}
{{ .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag }}{{ end }}
{{- end }}

{{- define "vlaapi.podSecurity" -}}
runAsNonRoot: true
runAsUser: {{ .uid }}
runAsGroup: {{ .uid }}
fsGroup: {{ .uid }}
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "vlaapi.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- /* A DNS name for a policy version: `openvla-7b.2` is openvla-7b-v2. */ -}}
{{- define "vlaapi.group" -}}
{{ printf "%s-triton-%s" (include "vlaapi.name" .root) (regexReplaceAll "\\.([0-9]+)$" .policy "-v${1}" | replace "_" "-" | lower) }}
{{- end }}

{{- define "vlaapi.mostReplicas" -}}
{{ if eq .autoscaling.kind "none" }}{{ .replicas }}{{ else }}{{ .autoscaling.maxReplicas }}{{ end }}
{{- end }}

{{- /* Every Triton that there may be, by the name of its pod; those that are not there now are skipped by the API. */ -}}
{{- define "vlaapi.tritonUrl" -}}
{{- $root := . }}{{ $addresses := list }}
{{- range .Values.triton.policies }}
{{- $group := include "vlaapi.group" (dict "root" $root "policy" .policy) }}
{{- range $n := until (int (include "vlaapi.mostReplicas" .)) }}
{{- $addresses = append $addresses (printf "%s-%d.%s.%s.svc:8001" $group $n $group $root.Release.Namespace) }}
{{- end }}{{ end }}
{{- join "," $addresses }}
{{- end }}

{{- define "vlaapi.environment" -}}
- {name: VLA_TRITON_URL, value: {{ include "vlaapi.tritonUrl" . | quote }}}
- {name: VLA_MODEL_REPOSITORY, value: /models}
- {name: VLA_SPOOL_DIR, value: /var/lib/vlaapi/spool}
- {name: VLA_API_PROCESSES, value: {{ ternary .Values.api.autoscaling.maxReplicas .Values.api.replicas .Values.api.autoscaling.enabled | toString | quote }}}
- {name: VLA_PUBLIC_URL, value: {{ printf "https://%s" .Values.ingress.host | quote }}}
{{- range $name, $value := .Values.settings }}
- {name: {{ printf "VLA_%s" (upper $name) }}, value: {{ toString $value | quote }}}
{{- end }}
{{- end }}

{{- define "vlaapi.spread" -}}
- maxSkew: 1
  topologyKey: kubernetes.io/hostname
  whenUnsatisfiable: ScheduleAnyway
  labelSelector:
    matchLabels:
      {{- include "vlaapi.selector" . | nindent 6 }}
{{- end }}
