{{- define "duolb.labels" -}}
app.kubernetes.io/name: duolb
app.kubernetes.io/part-of: duolb
{{- end }}

{{- define "duolb.labels.helm" -}}
{{ include "duolb.labels" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version }}
{{- end }}

{{- /* The port of an address such as 0.0.0.0:10256 or [::]:10256. */ -}}
{{- define "duolb.port" -}}
{{ splitList ":" . | last }}
{{- end }}
