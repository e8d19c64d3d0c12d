{{/* The release's name, unless that repeats or lacks the chart's. */}}
{{- define "hpalite.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride -}}
{{- else if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 50 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 50 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "hpalite.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (ternary (include "hpalite.fullname" .) "default" .Values.serviceAccount.create) -}}
{{- end -}}

{{- define "hpalite.labels" -}}
app.kubernetes.io/name: hpalite
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/part-of: hpalite
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- with .Values.additionalLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* One APIService, so one hpalite a cluster: its pods need no other label. */}}
{{- define "hpalite.selector" -}}
app.kubernetes.io/name: hpalite
{{- end -}}

{{- define "hpalite.subjects" -}}
subjects:
  - kind: ServiceAccount
    name: {{ include "hpalite.serviceAccount" . }}
    namespace: {{ .Release.Namespace }}
{{- end -}}

{{/* Rights to read what credentials come from. */}}
{{- define "hpalite.secretRule" -}}
- apiGroups: [""]
  resources: [secrets]
  {{- with .Values.permissions.restrict.namesAllowList }}
  resourceNames: {{ toYaml . | nindent 4 }}
  {{- end }}
  verbs: [get]
{{- end -}}

{{/* Whether there are rules of prometheus-adapter. */}}
{{- define "hpalite.adapter" -}}
{{- if or .Values.adapter.rules .Values.adapter.externalRules .Values.adapter.existing }}true{{ end }}
{{- end -}}
