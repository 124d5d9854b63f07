{{/* The files of the container: a certificate of another program, the allow-list, the CA of clients, and the
     user's own. Empty where there are none. */}}
{{- define "targetgate.volumeMounts" -}}
{{- if ne .Values.certificates.source "self" }}
- name: tls
  mountPath: /tls
  readOnly: true
{{- end }}
{{- if kindIs "slice" .Values.allowList }}
- name: allow
  mountPath: /allow
  readOnly: true
{{- end }}
{{- if .Values.clientCA.name }}
- name: client-ca
  mountPath: /client-ca
  readOnly: true
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end }}

{{- define "targetgate.volumes" -}}
{{- if ne .Values.certificates.source "self" }}
- name: tls
  secret:
    secretName: {{ .Values.certificates.secretName }}
    # 0440 in decimal, because YAML 1.1 and 1.2 read octal numbers differently.
    defaultMode: 288
{{- end }}
{{- if kindIs "slice" .Values.allowList }}
- name: allow
  configMap:
    name: targetgate
{{- end }}
{{- with .Values.clientCA }}
{{- if .name }}
- name: client-ca
  projected:
    sources:
      - {{ eq .kind "Secret" | ternary "secret" "configMap" }}:
          name: {{ .name }}
          items: [{ key: {{ .key | quote }}, path: {{ .key | quote }} }]
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end }}
