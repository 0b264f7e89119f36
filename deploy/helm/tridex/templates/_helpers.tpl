{{- define "tridex.name" -}}
{{- if contains .Chart.Name .Release.Name }}{{ .Release.Name }}{{ else }}{{ .Release.Name }}-{{ .Chart.Name }}{{ end }}
{{- end }}

{{- define "tridex.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "tridex.labels" -}}
{{ include "tridex.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end }}

{{- define "tridex.scheme" -}}
{{ if .Values.tls.existingSecret }}https{{ else }}http{{ end }}
{{- end }}

{{- define "tridex.securityContext" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: { drop: [ALL] }
{{- end }}

{{- define "tridex.exportImage" -}}
{{ .Values.export.image.repository }}:{{ .Values.export.image.tag }}
{{- end }}

{{- /* A model repository per image, checkpoint and precision: each of them decides what is exported. */ -}}
{{- define "tridex.repository" -}}
{{- $exported := list (include "tridex.exportImage" .) .Values.export.model .Values.export.precision | join " " -}}
/data/repositories/{{ $exported | sha256sum | trunc 12 }}
{{- end }}
